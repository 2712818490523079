#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu.h"

namespace peregrine {

namespace {

// Widest first.
const Kernels* const kAll[] = {
#if defined(__x86_64__)
    &kAvx512BfloatKernels,
    &kAvx512Kernels,
    &kAvx2Kernels,
#endif
    &kPortableKernels,
};

bool supported(const Kernels* kernels) {
#if defined(__x86_64__)
  if (kernels == &kAvx512BfloatKernels) return cpu_has_avx512_bfloat();
  if (kernels == &kAvx512Kernels) return cpu_has_avx512();
  if (kernels == &kAvx2Kernels) return cpu_has_avx2();
#endif
  return kernels == &kPortableKernels;
}

const Kernels* choose() {
  const char* wanted = getenv("PEREGRINE_CPU_ISA");
  if (wanted != nullptr && *wanted != '\0') return find_kernels(wanted);
  for (const Kernels* kernels : kAll) {
    if (supported(kernels)) return kernels;
  }
  return nullptr;
}

// Two threads that come first choose the same.
std::atomic<const Kernels*> active{nullptr};

}  // namespace

const Kernels* find_kernels(const char* name) {
  for (const Kernels* kernels : kAll) {
    if (strcmp(kernels->name, name) == 0 && supported(kernels)) return kernels;
  }
  return nullptr;
}

const Kernels* active_kernels() {
  const Kernels* kernels = active.load(std::memory_order_relaxed);
  if (kernels == nullptr) {
    kernels = choose();
    active.store(kernels, std::memory_order_relaxed);
  }
  return kernels;
}

bool force_kernels(const char* name) {
  const Kernels* kernels = find_kernels(name);
  if (kernels != nullptr) active.store(kernels, std::memory_order_relaxed);
  return kernels != nullptr;
}

}  // namespace peregrine
