// Compiled once per instruction set; PEREGRINE_AVX512, PEREGRINE_AVX2 and PEREGRINE_VNNI say for which.
#include "linear_kernels.h"

#if defined(PEREGRINE_AVX512)
#define PEREGRINE_LINEAR_ROWS 4
#define PEREGRINE_TABLE kLinearAvx512Vnni
#define PEREGRINE_NAME "avx512vnni"
#include "linear_simd_avx512.h"
#elif defined(PEREGRINE_VNNI)
#define PEREGRINE_LINEAR_ROWS 2
#define PEREGRINE_TABLE kLinearAvxVnni
#define PEREGRINE_NAME "avxvnni"
#include "linear_simd_avx2.h"
#elif defined(PEREGRINE_AVX2)
#define PEREGRINE_LINEAR_ROWS 2
#define PEREGRINE_TABLE kLinearAvx2
#define PEREGRINE_NAME "avx2"
#include "linear_simd_avx2.h"
#else
#define PEREGRINE_LINEAR_ROWS 2
#define PEREGRINE_TABLE kLinearPortable
#define PEREGRINE_NAME "portable"
#include "linear_simd_portable.h"
#endif
static_assert(kRows == PEREGRINE_LINEAR_ROWS, "multiply_tile has a case for every number of rows");

#include "linear_loops.h"

namespace peregrine {

extern const LinearKernels PEREGRINE_TABLE = {PEREGRINE_NAME, kBias, quantise, multiply};

}  // namespace peregrine
