#include "linear_isa.h"

#include <atomic>
#include <cstring>

#include "cpu.h"
#include "isa.h"

namespace peregrine {

namespace {

// Best first. Kernels for matrix tiles (AMX) would come before the vectors of their processors.
const LinearKernels* const kAll[] = {
#if defined(__x86_64__)
    &kLinearAvx512Vnni,
    &kLinearAvxVnni,
    &kLinearAvx2,
#endif
    &kLinearPortable,
};

bool supported(const LinearKernels* kernels) {
#if defined(__x86_64__)
  if (kernels == &kLinearAvx512Vnni) return cpu_has_avx512_vnni();
  if (kernels == &kLinearAvxVnni) return cpu_has_avx_vnni();
  if (kernels == &kLinearAvx2) return cpu_has_avx2();
#endif
  return kernels == &kLinearPortable;
}

// Whether they need no more than the instruction set that the other ops use.
bool within(const LinearKernels* kernels, const Kernels* limit) {
#if defined(__x86_64__)
  if (limit == &kAvx512BfloatKernels || limit == &kAvx512Kernels) return true;
  if (limit == &kAvx2Kernels) return kernels != &kLinearAvx512Vnni;
#endif
  return limit != nullptr && kernels == &kLinearPortable;
}

const LinearKernels* best_within(const Kernels* limit) {
  for (const LinearKernels* kernels : kAll) {
    if (within(kernels, limit) && supported(kernels)) return kernels;
  }
  return &kLinearPortable;
}

std::atomic<const LinearKernels*> forced{nullptr};
// What was found last, and within which limit. NOTE: asking the processor takes tens of microseconds in a virtual
// machine. Threads that come together find the same.
std::atomic<const Kernels*> found_limit{nullptr};
std::atomic<const LinearKernels*> found{nullptr};

}  // namespace

const LinearKernels* active_linear_kernels() {
  if (const LinearKernels* kernels = forced.load(std::memory_order_relaxed)) return kernels;
  const Kernels* limit = active_kernels();
  if (found_limit.load(std::memory_order_acquire) != limit) {
    found.store(best_within(limit), std::memory_order_relaxed);
    found_limit.store(limit, std::memory_order_release);
  }
  return found.load(std::memory_order_relaxed);
}

bool force_linear_kernels(const char* name) {
  if (name == nullptr) {
    forced.store(nullptr, std::memory_order_relaxed);
    return true;
  }
  for (const LinearKernels* kernels : kAll) {
    if (strcmp(kernels->name, name) != 0 || !supported(kernels)) continue;
    forced.store(kernels, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace peregrine
