#pragma once

#include <sched.h>

namespace peregrine {

// Waits for other threads that are about to finish: turns first, then the processor given away between looks.
template <class Done>
void spin_until(const Done& done) {
  constexpr int kTurns = 4000;
  for (int turn = 0; !done(); ++turn) {
    if (turn < kTurns) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      sched_yield();
    }
  }
}

}  // namespace peregrine
