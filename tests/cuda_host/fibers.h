// Runs one thread block: a fiber for each CUDA thread, resumed in turn until all have returned.
//
// A fiber gives way only at a barrier, so a block's run is deterministic. With a `seed` each warp runs on as far as it
// gets before the next is resumed, in an order that the seed decides: a kernel that lacks a barrier then gives other
// results for other seeds.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <ucontext.h>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the fiber that runs.
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace cuda_host {

constexpr unsigned kMaxThreads = 1024;
constexpr size_t kStackBytes = 128 << 10;
constexpr size_t kCanaryBytes = 256;
constexpr unsigned char kCanary = 0xA5;

constexpr unsigned kMaxCopies = 64;

struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
};

struct Fiber {
    jmp_buf context;
    uint3 index;
    bool started, done, released;
    unsigned copies;
    Copy pending[kMaxCopies];
};

struct Warp {
    alignas(16) unsigned char exchange[32][32];
    unsigned arrived, released, alive;
};

static Fiber fibers[kMaxThreads];
static Warp warps[kMaxThreads / 32];
static unsigned current, live, at_barrier;
static unsigned long progress;
static int vote_sum[2], vote_all[2], vote_turn;
static jmp_buf scheduler;
static char error[256];
static unsigned char* stacks;
static unsigned char* shared_memory;
static void (*body)(void*);
static void* body_data;

inline unsigned lane() { return current % 32; }
inline Warp& warp() { return warps[current / 32]; }

__attribute__((noinline)) static void yield() {
    const unsigned self = current;
    if (_setjmp(fibers[self].context) == 0) _longjmp(scheduler, 1);
}

[[noreturn]] static void fail(const char* message) {
    std::snprintf(error, sizeof error, "%s (block %u,%u,%u, thread %u,%u,%u)", message, blockIdx.x, blockIdx.y,
                  blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    _longjmp(scheduler, 2);
}

inline void release_block() {
    for (unsigned i = 0; i < kMaxThreads; ++i) fibers[i].released = true;
    at_barrier = 0;
    ++progress;
}

// Waits for every thread of the block that has not returned.
inline void block_barrier() {
    const unsigned self = current;
    fibers[self].released = false;
    ++at_barrier;
    ++progress;
    while (!fibers[self].released) {
        if (at_barrier >= live) release_block();
        else yield();
    }
}

// Waits for the lanes of `mask` that have not returned.
inline void warp_barrier(unsigned mask) {
    Warp& own = warp();
    const unsigned bit = 1u << lane();
    if (!(mask & bit)) fail("a lane outside the mask calls a warp operation");
    own.arrived |= bit;
    own.released &= ~bit;
    ++progress;
    while (!(own.released & bit)) {
        const unsigned expected = mask & own.alive;
        if ((own.arrived & expected) == expected) {
            own.arrived &= ~expected;
            own.released |= expected;
            ++progress;
        } else {
            yield();
        }
    }
}

static void fiber_main() {
    body(body_data);
    Fiber& self = fibers[current];
    self.done = true;
    warp().alive &= ~(1u << lane());
    --live;
    ++progress;
    _longjmp(scheduler, 1);
}

__attribute__((noinline)) static void resume(unsigned index) {
    current = index;
    threadIdx = fibers[index].index;
    if (fibers[index].started) _longjmp(fibers[index].context, 1);
    fibers[index].started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + index * kStackBytes;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    setcontext(&context);
}

// A switch returns here through `scheduler`: 1 is a fiber that gave way, 2 a failure.
__attribute__((noinline)) static bool step(unsigned index) {
    const int came_back = _setjmp(scheduler);
    if (came_back == 0) resume(index);
    return came_back != 2;
}

inline void begin_block(unsigned threads) {
    live = threads;
    at_barrier = 0;
    std::memset(warps, 0, sizeof warps);
    vote_turn = 0;
    vote_sum[0] = vote_sum[1] = 0;
    vote_all[0] = vote_all[1] = 1;
    for (unsigned i = 0; i < threads; ++i) {
        fibers[i].started = fibers[i].done = fibers[i].released = false;
        fibers[i].copies = 0;
        fibers[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        warps[i / 32].alive |= 1u << (i % 32);
    }
}

static uint32_t order_state;
inline uint32_t next_order() { return order_state = order_state * 1664525u + 1013904223u; }

// Resumes the fibers of a warp once, from a lane and in a direction that the seed decides.
inline bool step_warp(unsigned index, unsigned threads, unsigned seed) {
    const unsigned start = 32 * index, count = threads - start < 32 ? threads - start : 32;
    const unsigned first = seed ? (next_order() >> 8) % count : 0;
    const bool backwards = seed && (next_order() >> 16 & 1);
    for (unsigned n = 0; n < count; ++n) {
        const unsigned fiber = start + (first + (backwards ? count - 1 - n : n)) % count;
        if (!fibers[fiber].done && !step(fiber)) return false;
    }
    return true;
}

static bool run_block(unsigned threads, unsigned seed) {
    begin_block(threads);
    const unsigned count = (threads + 31) / 32;
    while (live) {
        const unsigned long before = progress;
        const unsigned first = seed ? (next_order() >> 8) % count : 0;
        for (unsigned n = 0; n < count; ++n) {
            unsigned long reached;
            do {
                reached = progress;
                if (!step_warp((first + n) % count, threads, seed)) return false;
            } while (seed && progress != reached);
        }
        if (live && progress == before) {
            std::snprintf(error, sizeof error, "deadlock: %u threads wait (block %u,%u,%u)", live, blockIdx.x,
                          blockIdx.y, blockIdx.z);
            return false;
        }
    }
    return true;
}

// Runs the blocks one after the other; shared memory holds NaNs when a block begins.
static int run_grid(const unsigned* dims, size_t shared_bytes, unsigned seed, void (*kernel)(void*), void* data) {
    gridDim = {dims[0], dims[1], dims[2]};
    blockDim = {dims[3], dims[4], dims[5]};
    body = kernel;
    body_data = data;
    order_state = seed;
    error[0] = 0;
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    if (threads == 0 || threads > kMaxThreads || blocks == 0) {
        std::snprintf(error, sizeof error, "invalid launch of %u blocks of %u threads", blocks, threads);
        return 1;
    }
    stacks = static_cast<unsigned char*>(mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    shared_memory = static_cast<unsigned char*>(std::aligned_alloc(256, (shared_bytes + kCanaryBytes + 255) & ~255ul));
    bool fine = stacks != MAP_FAILED && shared_memory != nullptr;
    const bool backwards = seed & 1;
    for (unsigned n = 0; fine && n < blocks; ++n) {
        const unsigned index = backwards ? blocks - 1 - n : n;
        blockIdx = {index % gridDim.x, index / gridDim.x % gridDim.y, index / (gridDim.x * gridDim.y)};
        std::memset(shared_memory, 0xFF, shared_bytes);
        std::memset(shared_memory + shared_bytes, kCanary, kCanaryBytes);
        fine = run_block(threads, seed);
        for (size_t i = 0; fine && i < kCanaryBytes; ++i) {
            if (shared_memory[shared_bytes + i] != kCanary) {
                std::snprintf(error, sizeof error, "written behind the %zu bytes of shared memory (block %u,%u,%u)",
                              shared_bytes, blockIdx.x, blockIdx.y, blockIdx.z);
                fine = false;
            }
        }
    }
    std::free(shared_memory);
    munmap(stacks, kMaxThreads * kStackBytes);
    return fine ? 0 : 1;
}

}  // namespace cuda_host
