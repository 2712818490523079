// Compiled once per instruction set; PEREGRINE_AVX512, PEREGRINE_AVX2 and PEREGRINE_VNNI say for which.
#include "linear_kernels.h"

#if defined(PEREGRINE_AVX512)
#define PEREGRINE_TABLE kLinearAvx512Vnni
#define PEREGRINE_NAME "avx512vnni"
#include "linear_simd_avx512.h"
#elif defined(PEREGRINE_VNNI)
#define PEREGRINE_TABLE kLinearAvxVnni
#define PEREGRINE_NAME "avxvnni"
#include "linear_simd_avx2.h"
#elif defined(PEREGRINE_AVX2)
#define PEREGRINE_TABLE kLinearAvx2
#define PEREGRINE_NAME "avx2"
#include "linear_simd_avx2.h"
#else
#define PEREGRINE_TABLE kLinearPortable
#define PEREGRINE_NAME "portable"
#include "linear_simd_portable.h"
#endif

#include "linear_loops.h"

static_assert(kRows <= peregrine::kMostPanelRows, "linear_run.cc has buffers for a panel");

namespace peregrine {

extern const LinearKernels PEREGRINE_TABLE = {PEREGRINE_NAME, kRows, kBias, normalise, quantise, multiply};

}  // namespace peregrine
