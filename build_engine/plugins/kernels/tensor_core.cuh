// The tensor-core and copy instructions of sm_80, which every later architecture runs.
#pragma once

#include "element.cuh"

// c += A B of 16x16 by 16x8.
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef CUDA_HOST
    const unsigned b[2] = {b0, b1};
    cuda_host::mma_m16n8k16(c, a, b, ELEMENT_BF16);
#else
#if ELEMENT_BF16
#define MULTIPLY_ADD_TYPES "bf16.bf16"
#else
#define MULTIPLY_ADD_TYPES "f16.f16"
#endif
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." MULTIPLY_ADD_TYPES
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Four 8x8 matrices from shared memory; lanes 8i .. 8i + 7 name the rows of matrix i.
__device__ __forceinline__ void load_matrices(unsigned (&out)[4], const Element* row) {
#ifdef CUDA_HOST
    cuda_host::ldmatrix_x4(out, row, false);
#else
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
#endif
}

__device__ __forceinline__ void load_matrices_transposed(unsigned (&out)[4], const Element* row) {
#ifdef CUDA_HOST
    cuda_host::ldmatrix_x4(out, row, true);
#else
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
#endif
}

// 16 bytes from global to shared memory, zeros when not `valid`; done after wait_for_copies().
__device__ __forceinline__ void copy_16(Element* shared, const Element* source, bool valid) {
    const unsigned bytes = valid ? 16 : 0;
#ifdef CUDA_HOST
    cuda_host::copy_async_16(shared, source, bytes);
#else
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(source), "r"(bytes) : "memory");
#endif
}

// NOTE: a thread waits for its own copies alone: a barrier has to follow.
__device__ __forceinline__ void wait_for_copies() {
#ifdef CUDA_HOST
    cuda_host::wait_copies();
#else
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
