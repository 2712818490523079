"""What a build can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_engine.errors import BuildError
from build_engine.recipes import KV_DTYPES, PRECISIONS, BuildDefaults
from runtime.bundle.gpu import find_gpu
from runtime.bundle.target import TARGETS

KNOWN_TARGETS = ("cpu", "cuda", "tensorrt", "tensorrt-rtx")
TENSORRT_TARGETS = ("tensorrt", "tensorrt-rtx")
SLOT_PRECISIONS = ("auto", "import", "int8", "int4", "fp32", "fp16", "bf16")
"""Of engines with linear KV slots."""
CUDA_PRECISIONS = ("auto", "import", "int8", "int4", "fp16", "bf16")
KV_KINDS = ("paged", "linear")
DEFAULT_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX compiles for where there is no GPU and no wish: all that it knows with bfloat16. Each more costs
neither time nor bytes: it picks kernels when an engine is loaded."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_BLOCK = 16
_CUDA_BLOCK = 256
"""What FlashAttention wants of heads of 64 and less; it suits all others."""
_MAX_BLOCK = 1024
_MAX_SLOTS = 1024
_MAX_SEQUENCE = 1 << 20
_MAX_CHUNK = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Choices of a build.

    Attributes:
        target: What the engine runs on.
        precision: ``None`` takes the recipe's. ``auto`` keeps the quantised blocks of a GGUF and rounds float weights
            to int8 where the widths are multiples of 32; engines for GPUs are float16 or bfloat16 then.
        rotate: Rotate the residual stream of paged int8 engines for CPUs, where the family allows it.
        kv: Blocks or linear slots; ``None`` is what suits the target.
        kv_dtype: Element type of the CPU's paged KV cache; ``None`` takes the recipe's.
        block_size: Tokens in a KV block; ``None`` is 16, and 256 for target cuda.
        slots: Sequences at once, of engines with linear slots; so are the next two.
        max_seq_len: Tokens of a sequence; ``None`` is the model's context, but no more than 2048.
        chunk: Tokens of the longest prefill run.
        compute_capabilities: GPUs to compile for, such as ``8.6``; ``None`` is the machine's own.
        keep_onnx: Leave the graph beside the plan that was compiled from it.
        name: Of the model in the manifest; ``None`` takes the recipe's or the file's.
        output: Directory of the bundle; ``None`` is one in the cache, named after its content.
        verify: Compare the engine with the float32 reference before it is published.
        force: Build even if the bundle exists.
    """

    target: str = "cpu"
    precision: str | None = None
    rotate: bool = True
    kv: str | None = None
    kv_dtype: str | None = None
    block_size: int | None = None
    slots: int = 8
    max_seq_len: int | None = None
    chunk: int = 256
    compute_capabilities: tuple[str, ...] | None = None
    keep_onnx: bool = False
    name: str | None = None
    output: Path | None = None
    verify: bool = True
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotShape:
    """Of an engine with linear KV slots; the fields are those of `BuildOptions`.

    ``compute_capabilities`` is empty where no GPU is compiled for.
    """

    slots: int = 8
    max_seq_len: int | None = None
    chunk: int = 256
    compute_capabilities: tuple[str, ...] = ()
    keep_onnx: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Options with every default filled in: what decides how the engine comes out.

    Attributes:
        kv_dtype: Of the CPU's paged KV cache; others have the type that the engine computes in.
        block_size: Of a paged KV cache.
        linear: Of linear slots; ``None`` is a paged KV cache.
        rotate: Rotate the residual stream if the precision comes out as int8 and the family allows it.
    """

    target: str
    precision: Literal["auto", "import", "int8", "int4", "fp32", "fp16", "bf16"]
    kv_dtype: Literal["float16", "float32", "bfloat16"]
    block_size: int
    linear: SlotShape | None = None
    rotate: bool = False


def complete(options: BuildOptions, defaults: BuildDefaults) -> Profile:
    """The profile of ``options``, with a recipe's defaults where they say nothing.

    Raises:
        BuildError: An option has a value that this version cannot build.
    """
    if options.target not in TARGETS:
        known = options.target in KNOWN_TARGETS
        what = "cannot be built by this version" if known else "is not known"
        raise BuildError(f"target {options.target!r} {what}; targets: {', '.join(TARGETS)}")
    if options.name is not None and not _NAME.fullmatch(options.name):
        raise BuildError(f"name {options.name!r} has to be letters, digits, '.', '_' and '-'")
    linear = _is_linear(options)
    shape = _slot_shape(options) if linear else None
    precision, precisions = options.precision or str(defaults.precision), tuple(PRECISIONS)
    if linear:
        # NOTE: recipes speak of paged engines for CPUs: the blocks of a GGUF are no default for GPUs.
        precision, precisions = options.precision or ("fp32" if options.target == "cpu" else "auto"), SLOT_PRECISIONS
    elif options.target == "cuda":
        precision, precisions = options.precision or "auto", CUDA_PRECISIONS
    if precision not in precisions:
        raise BuildError(f"precision {precision!r} is not one of {', '.join(precisions)}")
    kv_dtype = options.kv_dtype or defaults.kv_dtype
    if kv_dtype not in KV_DTYPES:
        raise BuildError(f"kv-dtype {kv_dtype!r} is not one of {', '.join(KV_DTYPES)}")
    block_size = options.block_size
    if block_size is None:
        block_size = _CUDA_BLOCK if options.target == "cuda" else _BLOCK
    if not 1 <= block_size <= _MAX_BLOCK:
        raise BuildError(f"block-size {block_size} is not between 1 and {_MAX_BLOCK}")
    return Profile(
        target=options.target,
        precision=precision,  # type: ignore[arg-type]  # checked against the list above
        kv_dtype=kv_dtype if shape is None and options.target == "cpu" else "float16",  # type: ignore[arg-type]  # checked
        block_size=_BLOCK if linear else block_size,
        linear=shape,
        rotate=options.rotate and shape is None and options.target == "cpu",
    )


def _is_linear(options: BuildOptions) -> bool:
    compiled = options.target in TENSORRT_TARGETS
    kv = options.kv or ("linear" if compiled else "paged")
    if kv not in KV_KINDS:
        raise BuildError(f"kv {kv!r} is not one of {', '.join(KV_KINDS)}")
    if compiled and kv == "paged":
        raise BuildError(f"kv paged: target {options.target} is built with --kv linear by this version")
    if options.target == "cuda" and (kv == "linear" or options.kv_dtype is not None):
        what = "kv-dtype: target cuda has the type that the engine computes in; --precision chooses it"
        raise BuildError("kv linear: target cuda has a paged KV cache" if kv == "linear" else what)
    if options.compute_capabilities is not None and not compiled:
        raise BuildError(f"compute-capability: target {options.target} is not compiled for a GPU")
    if kv == "linear" and options.kv_dtype is not None:
        raise BuildError("kv-dtype: linear slots have the type that the engine computes in; --precision chooses it")
    return kv == "linear"


def _slot_shape(options: BuildOptions) -> SlotShape:
    bounds = {
        "slots": (options.slots, _MAX_SLOTS),
        "max-seq-len": (options.max_seq_len, _MAX_SEQUENCE),
        "chunk": (options.chunk, _MAX_CHUNK),
    }
    for name, (value, largest) in bounds.items():
        if value is not None and not 1 <= value <= largest:
            raise BuildError(f"{name} {value} is not between 1 and {largest}")
    return SlotShape(
        slots=options.slots,
        max_seq_len=options.max_seq_len,
        chunk=options.chunk,
        compute_capabilities=_capabilities(options),
        keep_onnx=options.keep_onnx,
    )


def _capabilities(options: BuildOptions) -> tuple[str, ...]:
    """What was asked for; else the machine's own GPU; else what TensorRT-RTX can compile for without one."""
    for capability in options.compute_capabilities or ():
        if not _CAPABILITY.fullmatch(capability):
            raise BuildError(f"compute-capability {capability!r} has to look like 8.6")
    if options.compute_capabilities:
        return tuple(dict.fromkeys(options.compute_capabilities))
    if options.target not in TENSORRT_TARGETS:
        return ()
    gpu = find_gpu()
    if isinstance(gpu, str):
        return DEFAULT_CAPABILITIES if options.target == "tensorrt-rtx" else ()
    return (gpu.compute_capability,)
