"""Random linear layers, run by the native op and by the same arithmetic in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from attention_cases import Array, one_node_model, open_session
from onnx import TensorProto, helper

from build_engine.quantize import QuantMatrix, pack_tiles
from runtime.native.library import load_library

LINEAR_ISAS = ("avx512vnni", "avxvnni", "avx2", "portable")

PORTS = ("x", "weight", "bias", "gain", "residual")

FORMS = [
    {"bits": bits, "group": group, "offsets": offsets, "wide": wide}
    for bits in (4, 8)
    for group in (32, 64)
    for offsets in (False, True)
    for wide in (False, True)
]


def form_name(form: dict[str, int]) -> str:
    return f"q{form['bits']}-g{form['group']}" + "-offsets" * form["offsets"] + "-wide" * form["wide"]


def available_linear_isas() -> tuple[str, ...]:
    """The kernels that this processor can run."""
    library = load_library()
    found = tuple(isa for isa in LINEAR_ISAS if library.peregrine_force_linear_isa(isa.encode()))
    library.peregrine_force_linear_isa(None)
    return found


@contextmanager
def forced_linear_isa(name: str) -> Iterator[None]:
    library = load_library()
    assert library.peregrine_force_linear_isa(name.encode())
    try:
        yield
    finally:
        library.peregrine_force_linear_isa(None)


def random_matrix(
    rows: int, columns: int, *, bits: int = 8, group: int = 32, offsets: bool = False, wide: bool = False, seed: int = 0
) -> QuantMatrix:
    """Every level occurs; scales and offsets differ from group to group."""
    rng = np.random.default_rng([rows, columns, bits, group, seed])
    groups = (rows, columns // group)
    dtype = np.float32 if wide else np.float16
    levels = rng.integers(0, 1 << bits, (*groups, group), dtype=np.uint8)
    scales = (0.01 * rng.uniform(0.2, 1, groups)).astype(dtype)
    return QuantMatrix(bits, levels, scales, rng.standard_normal(groups).astype(dtype) if offsets else None)


def activations(rows: int, columns: int, spread: float = 3.0) -> Array:
    return (spread * np.random.default_rng([rows, columns]).standard_normal((rows, columns))).astype(np.float32)


def attributes(matrix: QuantMatrix) -> dict[str, int]:
    return {
        "K": matrix.columns,
        "N": matrix.rows,
        "bits": matrix.bits,
        "group": matrix.group,
        "offsets": int(matrix.offsets is not None),
        "scale_bytes": matrix.scales.dtype.itemsize,
    }


class NativeLinear:
    """The op on one matrix, with a constant bias and gain; ``residual`` says whether calls bring a residual stream."""

    def __init__(
        self,
        matrix: QuantMatrix,
        bias: Array | None = None,
        *,
        gain: Array | None = None,
        residual: bool = False,
        threads: int = 2,
        **options: Any,
    ) -> None:
        self._feeds = {"weight": pack_tiles(matrix)}
        self._feeds |= {name: value for name, value in (("bias", bias), ("gain", gain)) if value is not None}
        types = dict.fromkeys(PORTS if residual else PORTS[:-1], TensorProto.FLOAT) | {"weight": TensorProto.UINT8}
        types = {name: kind for name, kind in types.items() if name in self._feeds or name in ("x", "residual")}
        self._session = one_op("Linear", types, "y", threads, PORTS, **(attributes(matrix) | options))

    def __call__(self, x: Array, residual: Array | None = None) -> Array:
        given = {"x": x} if residual is None else {"x": x, "residual": residual}
        result: Array = self._session.run(None, self._feeds | given)[0]
        return result


def one_op(
    operator: str, types: dict[str, int], output: str, threads: int, ports: Sequence[str] = (), **options: Any
) -> ort.InferenceSession:
    """A session of one op whose inputs have these types, in this order or at the ports of their names."""
    names = [port if port in types else "" for port in ports] or list(types)
    node = helper.make_node(operator, names, [output], domain="peregrine", **options)
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    return open_session(one_node_model(node, inputs, outputs), threads)


def quantised(x: Array, group: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Integers ``[rows, groups, group]`` and float32 scales ``[rows, groups]`` of activations."""
    groups = x.reshape(len(x), -1, group)
    peak = np.abs(groups).max(axis=2)
    with np.errstate(divide="ignore"):
        inverse = np.where(peak >= np.float32(1e-35), np.float32(127) / peak, np.float32(0))
    values = np.rint(groups * inverse[..., None]).astype(np.int64)
    return values, np.where(inverse > 0, peak / np.float32(127), np.float32(0))


def fused(a: Any, b: Any, c: Any) -> npt.NDArray[np.float32]:
    """``a * b + c`` of float32 rounded once, but for sums within 2^-40 of the middle of two floats."""
    result: npt.NDArray[np.float32] = (np.longdouble(a) * np.longdouble(b) + np.longdouble(c)).astype(np.float32)
    return result


def reference(matrix: QuantMatrix, x: Array, bias: Array | None = None) -> Array:
    """What the op computes, operation by operation."""
    values, scales = quantised(x, matrix.group)
    centre = 0 if matrix.offsets is not None else 1 << (matrix.bits - 1)
    levels = matrix.levels.astype(np.int64) - centre
    total = np.broadcast_to(np.float32(0) if bias is None else bias, (len(x), matrix.rows)).astype(np.float32)
    weights = matrix.scales.astype(np.float32)
    for g in range(values.shape[1]):
        dots = (values[:, g] @ levels[:, g].T).astype(np.float32)
        total = fused(dots, scales[:, g, None] * weights[None, :, g], total)
        if matrix.offsets is not None:
            sums = scales[:, g] * values[:, g].sum(axis=1).astype(np.float32)
            total = fused(sums[:, None], matrix.offsets[None, :, g].astype(np.float32), total)
    return total


def normed(x: Array, gain: Array, epsilon: float) -> Array:
    """RMSNorm as the op computes it: 32 sums of squares over the columns in turn, added up in halves."""
    squares = (x * x).reshape(len(x), -1, 32)
    sums = np.zeros((len(x), 32), np.float32)
    for part in squares.swapaxes(0, 1):
        sums += part
    while sums.shape[1] > 1:
        sums = sums[:, : sums.shape[1] // 2] + sums[:, sums.shape[1] // 2 :]
    mean = sums / np.float32(x.shape[1])
    result: Array = x * (np.float32(1) / np.sqrt(mean + np.float32(epsilon))) * gain
    return result
