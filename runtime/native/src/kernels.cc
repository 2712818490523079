// Compiled once per instruction set; PEREGRINE_AVX512 or PEREGRINE_AVX2 says for which, PEREGRINE_BFLOAT_DOT that
// AVX-512 has products of bfloat16.
#include "kernels.h"

#if defined(PEREGRINE_AVX512)
#define PEREGRINE_ROW_GROUP 6
#if defined(PEREGRINE_BFLOAT_DOT)
#define PEREGRINE_TABLE kAvx512BfloatKernels
#define PEREGRINE_NAME "avx512bf16"
#else
#define PEREGRINE_TABLE kAvx512Kernels
#define PEREGRINE_NAME "avx512"
#endif
#include "simd_avx512.h"
#elif defined(PEREGRINE_AVX2)
#define PEREGRINE_ROW_GROUP 3
#define PEREGRINE_TABLE kAvx2Kernels
#define PEREGRINE_NAME "avx2"
#include "simd_avx2.h"
#else
#define PEREGRINE_ROW_GROUP 3
#define PEREGRINE_TABLE kPortableKernels
#define PEREGRINE_NAME "portable"
#include "simd_portable.h"
#endif
static_assert(kRowGroup == PEREGRINE_ROW_GROUP, "attend_tile has a case for every size of a row group");

#include "vector_math.h"

#include "row_kernels.h"

#include "attention_kernels.h"

#include "sampling_kernels.h"

namespace peregrine {

extern const Kernels PEREGRINE_TABLE = {
    PEREGRINE_NAME,
    kLanes,
    kRowGroup,
    transform_head,
    convert<float, uint16_t>,
    convert<uint16_t, float>,
    convert<float, Bfloat>,
    attend,
    merge,
    finish,
    silu_mul,
    temper,
    weigh,
};

}  // namespace peregrine
