// Enough of CUDA C++ for a kernel to be compiled by a host compiler. `CUDA_HOST` is defined: a kernel that needs
// inline PTX calls `cuda_host::` functions of tensor_core.h in its place.
#pragma once

#define CUDA_HOST 1
#define __CUDA_ARCH__ 800

#define __global__
#define __device__
#define __host__
#define __constant__ static
// One block runs at a time, so that a static variable is the block's own.
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

#include "fibers.h"
#include "numbers.h"
#include "warp.h"
#include "tensor_core.h"
#include "launch.h"

template <class T>
T __ldg(const T* address) { return *address; }
template <class T>
T __ldcg(const T* address) { return *address; }
template <class T>
T __ldcs(const T* address) { return *address; }
template <class T>
void __stcg(T* address, T value) { *address = value; }
template <class T>
void __stcs(T* address, T value) { *address = value; }
