"""What a build will take and give, before it starts: plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.families import expected_tensors
from build_engine.families.names import EMBEDDING
from build_engine.options import TENSORRT_TARGETS, Profile
from build_engine.passes import can_rotate, rotated
from build_engine.quantize.matrix import GROUP, ROTATED_GROUP
from build_engine.slot_plan import cache_element, resolve_slot_precision, sequence_length, slot_weight_bytes

_KV_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
_IMPORTED_BITS = {"q4_0": 4.5, "q4_1": 5, "q8_0": 8.5, "q4_k": 6, "q5_k": 10, "q6_k": 8.5, "iq4_nl": 8.5}
"""Bits a weight with its share of scales and offsets, which are float32 for Q4_K and Q5_K alone."""
_INT4_BITS = 5
_BASE_MEMORY = 350 << 20
_FIXED_DISK = 8 << 20
_CONVERTED_PER_SECOND = 80e6
_ROTATED_PER_SECOND = 60e6
_VERIFIED_PER_SECOND = 6e6
_FIXED_SECONDS = 1.0
_COMPILER_COPIES = 5.25
_COMPILED_PER_SECOND = 120e6
_COMPILER_SECONDS = 6.0
"""Of TensorRT-RTX 1.7 on two cores; it holds the weights about five times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Sizes in bytes, times in seconds.

    Attributes:
        precision: ``auto`` resolved.
        parameters: Weights of the model; a tied head counts once.
        engine_bytes: Of the bundle on disk.
        kv_bytes_per_token: KV cache that a token takes.
        build_memory: Peak of the build, estimated.
        build_seconds: Estimated.
        context_length: Tokens that a sequence may have.
        rotated: The residual stream is rotated before weights are quantised.
        slots: Of an engine with linear slots; ``None`` is a paged KV cache.
        compiled: By a compiler for GPUs, from a graph that lies beside the plan meanwhile.
        gpu: For a GPU, whose memory is not known here.
        free_disk: Where the bundle goes.
        free_memory: ``None`` where the system does not say.
    """

    precision: str
    parameters: int
    engine_bytes: int
    kv_bytes_per_token: int
    build_memory: int
    build_seconds: float
    context_length: int
    rotated: bool = False
    slots: int | None = None
    compiled: bool = False
    gpu: bool = False
    free_disk: int
    free_memory: int | None

    @property
    def tokens_that_fit(self) -> int | None:
        """KV tokens for which there is memory beside the engine, at this moment."""
        if self.free_memory is None or self.gpu:
            return None
        return max(0, self.free_memory - self.engine_bytes - _BASE_MEMORY) // self.kv_bytes_per_token

    def _kv_extent(self) -> str:
        sequence = self.kv_bytes_per_token * self.context_length
        if self.slots is None:
            return f"{megabytes(sequence)} for the full context of {self.context_length}"
        return f"{megabytes(sequence * self.slots)} for {self.slots} slots of {self.context_length}"

    def check(self) -> None:
        """Refuse what cannot work out.

        Raises:
            BuildError: The disk or the memory is too small; the message has the figures.
        """
        disk = self.engine_bytes * (2 if self.compiled else 1)  # the graph's weights beside the plan
        if disk > self.free_disk:
            raise BuildError(
                f"the build needs {megabytes(disk)} of disk, but {megabytes(self.free_disk)} are free; "
                "PEREGRINE_CACHE or --output chooses another place"
            )
        if self.free_memory is not None and self.build_memory > self.free_memory:
            raise BuildError(
                f"the build needs about {megabytes(self.build_memory)} of memory, but {megabytes(self.free_memory)} "
                "are free; --no-verify needs less"
            )

    def lines(self) -> list[str]:
        """The plan for people."""
        fit, memory = self.tokens_that_fit, self.free_memory
        return [
            f"parameters         {self.parameters / 1e6:,.1f} million",
            f"precision          {self.precision}{', rotated' if self.rotated else ''}",
            f"engine             {megabytes(self.engine_bytes)} ({megabytes(self.free_disk)} of disk free)",
            f"KV cache           {self.kv_bytes_per_token:,} bytes per token, {self._kv_extent()}",
            f"tokens that fit    {'unknown' if fit is None else f'{fit:,}'} beside the engine",
            f"build memory       about {megabytes(self.build_memory)} "
            f"({'unknown' if memory is None else megabytes(memory)} free)",
            f"build time         about {self.build_seconds:.0f} s",
        ]


def plan_build(
    checkpoint: Checkpoint, profile: Profile, *, verify: bool, free_disk: int, free_memory: int | None
) -> BuildPlan:
    """The plan of building ``checkpoint`` as ``profile`` says.

    Raises:
        BuildError: An option does not fit the checkpoint.
    """
    architecture = checkpoint.architecture
    precision = resolve_precision(checkpoint, profile)
    counts = [math.prod(shape) for shape in expected_tensors(architecture).values()]
    parameters = sum(counts)
    linear, compiled = profile.linear, profile.target in TENSORRT_TARGETS
    cuda = profile.target == "cuda"
    rotate = profile.rotate and precision == "int8" and can_rotate(architecture)
    if cuda:
        context, kv_bytes = architecture.context_length, _KV_BYTES[profile.kv_dtype]
        weights = slot_weight_bytes(checkpoint, precision)
    elif linear is None:
        context, kv_bytes = architecture.context_length, _KV_BYTES[profile.kv_dtype]
        group = ROTATED_GROUP if rotate else GROUP
        weights = paged_weight_bytes(rotated(checkpoint) if rotate else checkpoint, precision, group)
    else:
        context = sequence_length(architecture, linear.max_seq_len)
        kv_bytes = _KV_BYTES[cache_element(checkpoint, profile)]
        weights = slot_weight_bytes(checkpoint, precision)
    rotary = context * architecture.rotary_dim * 4
    engine = weights + rotary + _FIXED_DISK
    # NOTE: one fused matrix at a time is held as float32, as levels and packed, and the rotary tables are made in
    # float64; verifying holds all weights as float32, and the runtime's repacked copy beside the mapped file.
    converting = max(max(counts) * 12, rotary * 3)
    verifying = parameters * 4 + rotary * 3 + max(engine, parameters * 4 if linear or cuda else 0) * 2 if verify else 0
    compiling = int(weights * _COMPILER_COPIES) if compiled else 0
    seconds = _FIXED_SECONDS + parameters / _CONVERTED_PER_SECOND + (parameters / _VERIFIED_PER_SECOND if verify else 0)
    seconds += parameters / _ROTATED_PER_SECOND if rotate else 0
    return BuildPlan(
        precision=precision,
        parameters=parameters,
        engine_bytes=engine,
        kv_bytes_per_token=architecture.kv_bytes_per_token(kv_bytes),
        build_memory=_BASE_MEMORY + max(converting, verifying, compiling),
        build_seconds=seconds + (_COMPILER_SECONDS + weights / _COMPILED_PER_SECOND if compiled else 0),
        context_length=context,
        rotated=rotate,
        slots=None if linear is None else linear.slots,
        compiled=compiled,
        gpu=compiled or cuda,
        free_disk=free_disk,
        free_memory=free_memory,
    )


def resolve_precision(checkpoint: Checkpoint, profile: Profile) -> str:
    """The precision that ``auto`` stands for: quantised blocks are kept, float weights become int8 where they can.

    Raises:
        BuildError: ``import`` was asked of a checkpoint without quantised weights.
    """
    quantised = any(tensor.encoding in _IMPORTED_BITS for tensor in checkpoint.tensors.values())
    if profile.linear is not None or profile.target == "cuda":
        return resolve_slot_precision(checkpoint, profile)
    if profile.precision == "import" and not quantised:
        raise BuildError(f"{checkpoint.source.path}: has no quantised weights to import; use --precision int8 or fp32")
    if profile.precision != "auto":
        return profile.precision
    if quantised:
        return "import"
    shapes = expected_tensors(checkpoint.architecture).items()
    fits = all(shape[-1] % GROUP == 0 for name, shape in shapes if _quantisable(name, shape))
    return "int8" if fits else "fp32"


def megabytes(count: int) -> str:
    """``count`` bytes for people, in units of 10^6."""
    return f"{count / 1e6:,.0f} MB"


def _quantisable(name: str, shape: tuple[int, ...]) -> bool:
    """Matrices of the decoder; norms, biases and score heads are float32 always."""
    return len(shape) > 1 and not name.startswith("score.")


def paged_weight_bytes(checkpoint: Checkpoint, precision: str, group: int = GROUP) -> int:
    """Of all weights as they are stored, those that become int8 in groups of ``group``."""
    return sum(
        _stored_bytes(name, shape, checkpoint.tensors[name].encoding, precision, group)
        for name, shape in expected_tensors(checkpoint.architecture).items()
    )


def _stored_bytes(name: str, shape: tuple[int, ...], encoding: str, precision: str, group: int) -> int:
    count = math.prod(shape)
    if precision == "fp32" or not _quantisable(name, shape):
        return count * 4
    if precision == "import" and encoding in _IMPORTED_BITS:
        return math.ceil(count * _IMPORTED_BITS[encoding] / 8)
    if precision == "int4" and name != EMBEDDING:
        return count * _INT4_BITS // 8
    scales = count // (GROUP if shape[-1] % group else group)
    return count + scales * 2
