// What a block of threads works out together. Sums are of integers, so that their order does not matter: a result is
// the same for any number of threads and for any neighbours.
#pragma once

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

constexpr u32 kWarp = 32;
constexpr u32 kAllLanes = 0xffffffffu;

struct Sum {
    template <class T>
    __device__ T operator()(T a, T b) const { return a + b; }
};
struct Max {
    template <class T>
    __device__ T operator()(T a, T b) const { return a < b ? b : a; }
};
struct Min {
    template <class T>
    __device__ T operator()(T a, T b) const { return b < a ? b : a; }
};

template <class T, class Combine>
__device__ T warp_reduce(T value, Combine combine) {
    for (u32 distance = kWarp / 2; distance; distance /= 2) {
        value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
    }
    return value;
}

// Every thread of the block gets the result.
template <class T, class Combine>
__device__ T block_reduce(T value, Combine combine) {
    __shared__ T parts[kWarp];
    value = warp_reduce(value, combine);
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    T result = parts[0];
    for (u32 warp = 1; warp < blockDim.x / kWarp; ++warp) result = combine(result, parts[warp]);
    __syncthreads();
    return result;
}

template <class T>
__device__ T warp_inclusive_sum(T value) {
    for (u32 distance = 1; distance < kWarp; distance *= 2) {
        const T before = __shfl_up_sync(kAllLanes, value, distance);
        if (threadIdx.x % kWarp >= distance) value += before;
    }
    return value;
}
