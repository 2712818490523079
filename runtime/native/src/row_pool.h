// Threads that help with work on many rows outside a graph run.
#pragma once

#include <cstdint>

namespace peregrine {

constexpr int kMaxPoolThreads = 16;

// Calls run(user, index, thread) for every index below `count`, on at most `threads` threads, the caller's among them;
// returns when all calls have. `thread` is below `threads` and no two calls with the same one overlap. Rows go to
// whoever is free: a thread that comes late costs nothing but its help.
void for_each_row(int threads, int64_t count, void (*run)(void* user, int64_t index, int thread), void* user);

}  // namespace peregrine
