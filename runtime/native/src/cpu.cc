#include "cpu.h"

#include <cstdint>
#include <initializer_list>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace peregrine {

#if defined(__x86_64__)

// NOTE: not __builtin_cpu_supports: its tables come with the compiler's runtime, and Zig's leaves them empty.
namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf cpuid(unsigned leaf, unsigned part = 0) {
  Leaf out;
  __get_cpuid_count(leaf, part, &out.a, &out.b, &out.c, &out.d);
  return out;
}

constexpr unsigned bits(std::initializer_list<int> numbers) {
  unsigned mask = 0;
  for (int number : numbers) mask |= 1u << number;
  return mask;
}

bool all(unsigned value, unsigned mask) { return (value & mask) == mask; }

// The register state that the operating system enables (XCR0).
unsigned enabled_state() {
  constexpr int kOsXsave = 27;
  if (!all(cpuid(1).c, 1u << kOsXsave)) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

bool cpu_has_avx2() {
  constexpr unsigned kFmaAvxF16c = bits({12, 28, 29}), kAvx2 = bits({5}), kYmmState = bits({1, 2});
  return all(enabled_state(), kYmmState) && all(cpuid(1).c, kFmaAvxF16c) && all(cpuid(7).b, kAvx2);
}

bool cpu_has_avx512() {
  constexpr unsigned kFDqBwVl = bits({16, 17, 30, 31}), kZmmState = bits({1, 2, 5, 6, 7});
  return cpu_has_avx2() && all(enabled_state(), kZmmState) && all(cpuid(7).b, kFDqBwVl);
}

bool cpu_has_avx512_bfloat() {
  constexpr unsigned kBfloat = bits({5});
  return cpu_has_avx512() && cpuid(7).a >= 1 && all(cpuid(7, 1).a, kBfloat);
}

bool cpu_has_avx_vnni() {
  constexpr unsigned kAvxVnni = bits({4});
  return cpu_has_avx2() && cpuid(7).a >= 1 && all(cpuid(7, 1).a, kAvxVnni);
}

bool cpu_has_avx512_vnni() {
  constexpr unsigned kVnni = bits({11});
  return cpu_has_avx512() && all(cpuid(7).c, kVnni);
}

#else

bool cpu_has_avx2() { return false; }
bool cpu_has_avx512() { return false; }
bool cpu_has_avx512_bfloat() { return false; }
bool cpu_has_avx_vnni() { return false; }
bool cpu_has_avx512_vnni() { return false; }

#endif

}  // namespace peregrine
