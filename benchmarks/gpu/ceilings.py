"""What the GPU can do at best: how fast it copies memory, and how fast it multiplies float16 matrices."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.findings import Findings, Settings
from benchmarks.gpu.timing import seconds_each
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device, pointer
from runtime.cuda.nvrtc import compile_cubin

COPIED = 1 << 30
"""Bytes; far beyond any cache."""
BLOCKS, WARPS, TILES = 4096, 8, 8
ROUNDS = 2048
FLOPS = 2 * 16 * 8 * 16 * TILES * WARPS * BLOCKS * ROUNDS
MATRIX_KIND = "mma.sync m16n8k16, float16 to float32, operands in registers (Hopper's wgmma is faster)"

MULTIPLY = """
extern "C" __global__ void __launch_bounds__(256) multiply(float* out, int rounds) {
    const unsigned one = 0x3c003c00u;  // two halves
    float c[8][4] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma unroll
        for (int tile = 0; tile < 8; ++tile) {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%4,%4,%4},{%4,%4},"
                         "{%0,%1,%2,%3};"
                         : "+f"(c[tile][0]), "+f"(c[tile][1]), "+f"(c[tile][2]), "+f"(c[tile][3]) : "r"(one));
        }
    }
    float sum = 0.0f;
    for (int tile = 0; tile < 8; ++tile)
        for (int i = 0; i < 4; ++i) sum += c[tile][i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""


def measure(_: Settings, findings: Findings) -> None:
    """The two ceilings.

    Raises:
        CudaError: A call fails.
    """
    device = open_device()
    findings.add(copy_gb_s=round(copy_rate(device) / 1e9, 1), copied="bytes read and written")
    arch = "sm_{}{}".format(*device.compute_capability)
    rate = matrix_rate(device, compile_cubin(MULTIPLY, "multiply.cu", arch))
    findings.add(matrix_tflop_s=round(rate / 1e12, 1), matrix=MATRIX_KIND)
    figures = findings.outcome.figures
    findings.outcome.summary = f"copy {figures['copy_gb_s']} GB/s, matrices {figures['matrix_tflop_s']} TFLOP/s"
    device.close()


def copy_rate(device: Device, nbytes: int = COPIED) -> float:
    """Bytes read and written a second by a copy within the device."""
    nbytes = min(nbytes, device.memory()[0] // 4)
    stream, source, target = device.stream(), device.allocate(nbytes), device.allocate(nbytes)
    stream.fill(source.address, 1, nbytes)
    seconds = seconds_each(stream, lambda: stream.copy(target.address, source.address, nbytes), repeats=5)
    for buffer in (source, target):
        buffer.close()
    return 2 * nbytes / seconds


def matrix_rate(device: Device, cubin: bytes) -> float:
    """Floating-point operations a second of tensor cores that wait for no memory.

    Raises:
        ArithmeticError: The result is not that of the products.
    """
    stream, module = device.stream(), device.load(cubin)
    threads = 32 * WARPS
    out = np.zeros(BLOCKS * threads, dtype=np.float32)
    buffer = device.allocate(out.nbytes)
    args = [pointer(buffer.address), np.int32(ROUNDS)]
    kernel = module.kernel("multiply")
    seconds = seconds_each(stream, lambda: stream.launch(kernel, (BLOCKS, 1, 1), (threads, 1, 1), 0, args), repeats=2)
    stream.download(out, buffer.address)
    stream.synchronize()
    if not (out == 4 * TILES * 16 * ROUNDS).all():
        message = f"the tensor cores' sum is {out.min()} to {out.max()}, not {4 * TILES * 16 * ROUNDS}"
        raise ArithmeticError(message)
    buffer.close()
    module.close()
    return FLOPS / seconds
