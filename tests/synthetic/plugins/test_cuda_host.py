"""The CPU stand-in for CUDA that the kernels are tested on: what it runs, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host.host_kernels import HostKernels, KernelError

SOURCE = r"""
#include <cuda_fp16.h>
extern "C" __global__ void __launch_bounds__(128) block_sum(const float* x, float* out, int n) {
    extern __shared__ __align__(16) float partial[];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    partial[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) out[blockIdx.x] = partial[0];
}

extern "C" __global__ void total_by_last_block(const int* x, int* partial, unsigned* arrived, int* out) {
    __shared__ int sum;
    __shared__ bool last;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, x[blockIdx.x * blockDim.x + threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        for (unsigned b = 0; b < gridDim.x; ++b) *out += partial[b];
}

extern "C" __global__ void warp_operations(int* xor_sum, int* up, unsigned* ballot, int* quarter) {
    int lane = threadIdx.x % 32, sum = threadIdx.x;
    for (int flip = 16; flip; flip /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, flip);
    xor_sum[threadIdx.x] = sum;
    up[threadIdx.x] = __shfl_up_sync(0xffffffffu, lane, 1);
    ballot[threadIdx.x] = __ballot_sync(0xffffffffu, lane % 3 == 0);
    quarter[threadIdx.x] = __shfl_sync(0xffffffffu, lane, 1, 8);
    if (lane < 16) quarter[threadIdx.x] += 100 * __shfl_sync(0xffffu, lane, 5);
}

extern "C" __global__ void round_to_half(const float* x, __half* f16, __nv_bfloat16* bf16) {
    f16[threadIdx.x] = __float2half(x[threadIdx.x]);
    bf16[threadIdx.x] = __float2bfloat16(x[threadIdx.x]);
}

extern "C" __global__ void reads_without_barrier(int* out) {
    __shared__ int shared[64];
    shared[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = shared[63 - threadIdx.x];
}

extern "C" __global__ void deadlocks() {
    if (threadIdx.x < 32) __syncthreads();
    else __syncwarp(), __shfl_sync(0xffffffffu, 1, 0), __syncthreads();
    if (threadIdx.x == 0) __shfl_sync(0xffffffffu, 1, 0);
    else __syncthreads();
}

extern "C" __global__ void overruns() {
    extern __shared__ int values[];
    values[threadIdx.x] = 1;
}
"""


@pytest.fixture(scope="module")
def kernels() -> HostKernels:
    return HostKernels(SOURCE)


def test_a_tree_reduction_in_shared_memory_sums_every_block(kernels: HostKernels) -> None:
    x = np.arange(1000, dtype=np.float32)
    out = np.zeros(8, dtype=np.float32)
    kernels.launch("block_sum", (8,), (128,), 128 * 4, x, out, np.int32(len(x)), seed=3)
    assert out.sum() == x.sum()
    assert out[0] == x[:128].sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_last_block_to_arrive_sees_all_partials(kernels: HostKernels, seed: int) -> None:
    x = np.arange(96, dtype=np.int32)
    partial, out = np.full(3, -1, np.int32), np.zeros(1, np.int32)
    arrived = np.zeros(1, np.uint32)
    kernels.launch("total_by_last_block", (3,), (32,), 0, x, partial, arrived, out, seed=seed)
    assert out[0] == x.sum()
    assert arrived[0] == 0


def test_shuffles_and_votes_stay_inside_their_warp(kernels: HostKernels) -> None:
    xor_sum, up, quarter = (np.zeros(64, np.int32) for _ in range(3))
    ballot = np.zeros(64, np.uint32)
    kernels.launch("warp_operations", (1,), (64,), 0, xor_sum, up, ballot, quarter, seed=5)
    lanes = np.arange(64) % 32
    assert xor_sum.tolist() == [sum(range(32))] * 32 + [sum(range(32, 64))] * 32
    assert up.tolist() == np.maximum(lanes - 1, 0).tolist()
    assert set(ballot.tolist()) == {sum(1 << i for i in range(0, 32, 3))}
    assert quarter.tolist() == (lanes // 8 * 8 + 1 + 500 * (lanes < 16)).tolist()


def test_floats_round_to_sixteen_bits_as_numpy_rounds(kernels: HostKernels) -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal(1024) * 10.0 ** generator.integers(-8, 6, 1024)).astype(np.float32)
    f16, bf16 = np.zeros(1024, np.float16), np.zeros(1024, np.uint16)
    kernels.launch("round_to_half", (1,), (1024,), 0, x, f16, bf16)
    with np.errstate(over="ignore"):
        assert f16.tobytes() == x.astype(np.float16).tobytes()
    bits = x.view(np.uint32).astype(np.uint64)
    assert bf16.tolist() == ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).tolist()


def test_another_order_of_threads_shows_a_missing_barrier(kernels: HostKernels) -> None:
    results = set()
    for seed in range(4):
        out = np.zeros(64, np.int32)
        kernels.launch("reads_without_barrier", (1,), (64,), 0, out, seed=seed)
        results.add(out.tobytes())
    assert len(results) > 1


def test_a_deadlock_is_an_error(kernels: HostKernels) -> None:
    with pytest.raises(KernelError, match="deadlock: 64 threads wait"):
        kernels.launch("deadlocks", (1,), (64,), 0)


def test_a_write_past_shared_memory_is_an_error(kernels: HostKernels) -> None:
    with pytest.raises(KernelError, match="written behind the 124 bytes"):
        kernels.launch("overruns", (1,), (32,), 124)


def test_arguments_of_the_wrong_size_are_refused(kernels: HostKernels) -> None:
    x = np.zeros(4, np.float32)
    with pytest.raises(KernelError, match="argument 2 has 8 bytes, not 4"):
        kernels.launch("block_sum", (1,), (32,), 128, x, x, np.int64(1))
    with pytest.raises(KernelError, match="2 arguments given, 3 taken"):
        kernels.launch("block_sum", (1,), (32,), 128, x, x)
    with pytest.raises(KernelError, match="not contiguous"):
        kernels.launch("block_sum", (1,), (32,), 128, np.zeros((4, 4))[:, 1], x, np.int32(1))


def test_what_does_not_compile_names_the_line() -> None:
    with pytest.raises(KernelError, match=r"error: .*oops"):
        HostKernels('extern "C" __global__ void broken(int* x) { oops; }')
