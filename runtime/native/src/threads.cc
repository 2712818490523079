#include "threads.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#if defined(__linux__)
#include <sched.h>
#endif

namespace peregrine {

namespace {

int64_t count_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return sysconf(_SC_NPROCESSORS_ONLN);
}

}  // namespace

int64_t worker_limit() {
  static std::atomic<int64_t> limit{0};
  if (limit.load(std::memory_order_relaxed) == 0) {
    limit.store(std::clamp<int64_t>(count_processors(), 1, 128), std::memory_order_relaxed);
  }
  return limit.load(std::memory_order_relaxed);
}

}  // namespace peregrine
