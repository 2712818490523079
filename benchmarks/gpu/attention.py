"""The KV-cache kernels of the TensorRT plugins, alone: right, and how fast they read the cache."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.findings import Findings, Settings
from benchmarks.gpu.paged import Batch, Kernels, Load, element
from benchmarks.gpu.timing import seconds_each
from build_engine.plugins.spec import AttentionSpec
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device, Module
from runtime.cuda.nvrtc import compile_cubin

RAGGED = ((37, 1), (0, 5), (600, 1), (3, 40), (1500, 1))
BATCHES = (1, 16, 128)
CONTEXT = 4096
_EPSILON = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def spec_of(dtype: str, heads: int, kv_heads: int, head_dim: int, **more: float) -> AttentionSpec:
    """A layer's attention; all of a head rotates."""
    scale = head_dim**-0.5
    fixed = {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim, "rotary_dim": head_dim}
    return AttentionSpec(dtype=dtype, block_size=16, scale=scale, **fixed, **more)  # type: ignore[arg-type]


CHECKED = {
    "64, float16": spec_of("float16", 9, 3, 64),
    "128, bfloat16": spec_of("bfloat16", 32, 8, 128),
    "96, float16, window": spec_of("float16", 8, 8, 96, sliding_window=200),
    "256, bfloat16, window and softcap": spec_of("bfloat16", 8, 4, 256, sliding_window=200, softcap=50.0),
}
TIMED = {
    "SmolLM2-135M (9 / 3 heads of 64, float16)": spec_of("float16", 9, 3, 64),
    "Llama-3-8B (32 / 8 heads of 128, bfloat16)": spec_of("bfloat16", 32, 8, 128),
}


def measure(settings: Settings, findings: Findings) -> None:
    """Agreement of both kernels with the reference, then rates of attention.

    Raises:
        CudaError: A call fails.
        ArithmeticError: A result is not the reference's.
    """
    device = open_device()
    arch = "sm_{}{}".format(*device.compute_capability)

    def load(source: str, name: str) -> Module:
        return device.load(compile_cubin(source, f"{name}.cu", arch))

    findings.add(largest_error={name: check(device, spec, load) for name, spec in CHECKED.items()})
    best = 0.0
    decode: dict[str, object] = {}
    for name, spec in TIMED.items():
        for size in BATCHES:
            rate = decode_rate(device, Batch.of(spec, [(CONTEXT - 1, 1)] * size), load) / 1e9
            best = max(best, rate)
            figures = {"gb_s": round(rate, 1), "share_of_copy": settings.share("copy_gb_s", rate)}
            decode[f"{name}, {size} x {CONTEXT}"] = figures
            findings.add(decode=decode)
    prefill: dict[str, object] = {}
    for name, spec in TIMED.items():
        rate = prefill_rate(device, Batch.of(spec, [(0, CONTEXT)]), load) / 1e12
        share = settings.share("matrix_tflop_s", rate)
        prefill[f"{name}, {CONTEXT} tokens"] = {"tflop_s": round(rate, 1), "share_of_matrix": share}
        findings.add(prefill=prefill)
    share = settings.share("copy_gb_s", best)
    share_text = "" if share is None else f", {share:.0%} of copy"
    findings.outcome.summary = f"{len(CHECKED)} kernels are right; decode reads {best:.0f} GB/s{share_text}"
    device.close()


def check(device: Device, spec: AttentionSpec, load: Load) -> float:
    """Largest error of the attention of a ragged batch.

    Raises:
        ArithmeticError: A result is further from the reference than rounding explains.
    """
    batch = Batch.of(spec, RAGGED)
    qkv, pools = random_inputs(batch)
    kernels = Kernels(device, batch, load)
    for address, array in zip((kernels.qkv, kernels.keys, kernels.values), (qkv, *pools), strict=True):
        kernels.stream.upload(address, array)
    kernels.write()
    kernels.attend()
    queries = np.zeros((batch.tokens, spec.num_heads, spec.head_dim), dtype=qkv.dtype)
    out, written = np.zeros_like(queries), [np.zeros_like(pool) for pool in pools]
    addresses = (kernels.queries, kernels.out, kernels.keys, kernels.values)
    for array, address in zip((queries, out, *written), addresses, strict=True):
        kernels.stream.download(array, address)
    kernels.close()
    return judge(batch, qkv, pools, queries, out, written)


def random_inputs(batch: Batch) -> tuple[np.ndarray, list[np.ndarray]]:
    """New tokens' projections, and pools in which every element is a number."""
    spec, rng = batch.spec, np.random.default_rng(1)
    width = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    qkv = (rng.standard_normal((batch.tokens, width)) * 2).astype(element(spec))
    return qkv, [rng.standard_normal(batch.pool_shape).astype(element(spec)) for _ in range(2)]


def judge(
    batch: Batch,
    qkv: np.ndarray,
    pools: list[np.ndarray],
    queries: np.ndarray,
    out: np.ndarray,
    written: list[np.ndarray],
) -> float:
    """Compare what the kernels made of a batch with the reference, each on what it was given.

    Args:
        batch: The batch.
        qkv: Its new tokens.
        pools: Keys and values before.
        queries: As they were written.
        out: Attention over ``queries`` and ``written``.
        written: Keys and values after.

    Returns:
        The largest error of ``out``.

    Raises:
        ArithmeticError: Something is further from the reference than rounding explains.
    """
    spec, epsilon = batch.spec, _EPSILON[batch.spec.dtype]
    expected = [pool.astype(np.float32) for pool in pools]
    batch.reference(qkv.astype(np.float32), *expected)
    for name, pool, wanted in zip(("keys", "values"), written, expected, strict=True):
        _compare(name, pool.astype(np.float32), wanted, 2 * epsilon, 1e-5)
    rounded = qkv.astype(np.float32).reshape(batch.tokens, -1, spec.head_dim)
    rounded[:, : spec.num_heads] = queries.astype(np.float32)
    rounded[:, spec.num_heads :] = _cached(batch, written)
    caches = [pool.astype(np.float32) for pool in written]
    attended = batch.reference(rounded.reshape(batch.tokens, -1), *caches, rotate=False)
    return _compare("attention", out.reshape(attended.shape).astype(np.float32), attended, 2 * epsilon, 4 * epsilon)


def decode_rate(device: Device, batch: Batch, load: Load) -> float:
    """Bytes of KV cache a second that decoding reads."""
    kernels, itemsize = Kernels(device, batch, load), element(batch.spec).itemsize
    _fill(kernels, batch)
    seconds = seconds_each(kernels.stream, kernels.attend)
    kernels.close()
    keys = int((batch.past_lens + 1).sum())
    return 2 * keys * batch.spec.num_kv_heads * batch.spec.head_dim * itemsize / seconds


def prefill_rate(device: Device, batch: Batch, load: Load) -> float:
    """Floating-point operations a second of causal attention over one prompt."""
    kernels, spec = Kernels(device, batch, load), batch.spec
    _fill(kernels, batch)
    seconds = seconds_each(kernels.stream, kernels.attend)
    kernels.close()
    pairs = batch.tokens * (batch.tokens + 1) // 2
    return 4 * pairs * spec.num_heads * spec.head_dim / seconds


def _fill(kernels: Kernels, batch: Batch) -> None:
    """Finite values everywhere: 0x2c2c is 0.065 in float16."""
    itemsize = element(batch.spec).itemsize
    pool = int(np.prod(batch.pool_shape)) * itemsize
    queries = batch.tokens * batch.spec.num_heads * batch.spec.head_dim * itemsize
    for address, nbytes in ((kernels.keys, pool), (kernels.values, pool), (kernels.queries, queries)):
        kernels.stream.fill(address, 0x2C, nbytes)


def _cached(batch: Batch, pools: list[np.ndarray]) -> np.ndarray:
    """Keys and values of the new tokens, as they lie in the cache: ``[T, 2 * kv_heads, head_dim]``."""
    size, rows = batch.spec.block_size, []
    for row, past in enumerate(batch.past_lens.tolist()):
        first, end = batch.cu_seqlens[row : row + 2].tolist()
        for position in range(past, past + end - first):
            block, slot = batch.block_table[row, position // size], position % size
            rows.append(np.concatenate([pool[block, :, slot] for pool in pools]))
    return np.stack(rows).astype(np.float32)


def _compare(name: str, found: np.ndarray, wanted: np.ndarray, relative: float, absolute: float) -> float:
    error = np.abs(found - wanted)
    right = error <= absolute + relative * np.abs(wanted)  # false for what is no number
    if not right.all():
        worst = float(error[np.isfinite(error)].max(initial=0.0))
        message = f"{name}: {int((~right).sum())} of {right.size} are wrong, off by up to {worst:.3g}"
        message += f"; {int(np.isnan(found).sum())} are no numbers"
        raise ArithmeticError(message)
    return float(error.max())
