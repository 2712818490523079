"""What a build will take and give, before it starts: plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.families import expected_tensors
from build_engine.families.names import EMBEDDING, HEAD
from build_engine.options import Profile

GROUP = 32
_KV_BYTES = {"float16": 2, "float32": 4}
_BITS = {"q4_0": 4, "q4_1": 8, "q8_0": 8, "q4_k": 8, "q5_k": 8, "q6_k": 8, "iq4_nl": 8}
_SCALE_BYTES = 4
_BASE_MEMORY = 350 << 20
_FIXED_DISK = 8 << 20
_CONVERTED_PER_SECOND = 80e6
_VERIFIED_PER_SECOND = 6e6
_FIXED_SECONDS = 1.0


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
    free_disk: int
    free_memory: int | None

    @property
    def tokens_that_fit(self) -> int | None:
        """KV tokens for which there is memory beside the engine, at this moment."""
        if self.free_memory is None:
            return None
        return max(0, self.free_memory - self.engine_bytes - _BASE_MEMORY) // self.kv_bytes_per_token

    def check(self) -> None:
        """Refuse what cannot work out.

        Raises:
            BuildError: The disk or the memory is too small; the message has the figures.
        """
        if self.engine_bytes > self.free_disk:
            raise BuildError(
                f"the bundle needs {megabytes(self.engine_bytes)} of disk, but {megabytes(self.free_disk)} are free; "
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
            f"precision          {self.precision}",
            f"engine             {megabytes(self.engine_bytes)} ({megabytes(self.free_disk)} of disk free)",
            f"KV cache           {self.kv_bytes_per_token:,} bytes per token, "
            f"{megabytes(self.kv_bytes_per_token * self.context_length)} for the full context of {self.context_length}",
            f"tokens that fit    {'unknown' if fit is None else f'{fit:,}'} beside the engine",
            f"build memory       about {megabytes(self.build_memory)} "
            f"({'unknown' if memory is None else megabytes(memory)} free)",
            f"build time         about {self.build_seconds:.0f} s",
        ]


def plan_build(
    checkpoint: Checkpoint, profile: Profile, *, verify: bool, free_disk: int, free_memory: int | None
) -> BuildPlan:
    """The plan of building ``checkpoint`` as ``profile`` says."""
    architecture = checkpoint.architecture
    precision = resolve_precision(checkpoint, profile)
    shapes = expected_tensors(architecture)
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    parameters = sum(counts.values())
    engine = sum(
        _stored_bytes(name, shape, checkpoint.tensors[name].encoding, precision) for name, shape in shapes.items()
    )
    rotary = architecture.context_length * architecture.rotary_dim * 4
    engine += rotary
    # NOTE: one fused matrix at a time is held as float32, as levels and packed, and the rotary tables are made in
    # float64; verifying holds all weights as float32, and the runtime's repacked copy beside the mapped file.
    converting = max(max(counts.values()) * 12, rotary * 3)
    verifying = parameters * 4 + rotary * 3 + engine * 2 if verify else 0
    seconds = _FIXED_SECONDS + parameters / _CONVERTED_PER_SECOND + (parameters / _VERIFIED_PER_SECOND if verify else 0)
    return BuildPlan(
        precision=precision,
        parameters=parameters,
        engine_bytes=engine + _FIXED_DISK,
        kv_bytes_per_token=architecture.kv_bytes_per_token(_KV_BYTES[profile.kv_dtype]),
        build_memory=_BASE_MEMORY + max(converting, verifying),
        build_seconds=seconds,
        context_length=architecture.context_length,
        free_disk=free_disk,
        free_memory=free_memory,
    )


def resolve_precision(checkpoint: Checkpoint, profile: Profile) -> str:
    """The precision that ``auto`` stands for: quantised blocks are kept, float weights become int8 where they can.

    Raises:
        BuildError: ``import`` was asked of a checkpoint without quantised weights.
    """
    quantised = any(tensor.encoding in _BITS for tensor in checkpoint.tensors.values())
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


def _stored_bytes(name: str, shape: tuple[int, ...], encoding: str, precision: str) -> int:
    count = math.prod(shape)
    if precision == "fp32" or not _quantisable(name, shape):
        return count * 4
    bits = 4 if precision == "int4" else 8
    if precision == "import":
        bits = _BITS.get(encoding, 8)
    if name in (EMBEDDING, HEAD):
        bits = 8
    zero_points = count // GROUP if encoding in ("q4_1", "q4_k", "q5_k") else 0
    return count * bits // 8 + count // GROUP * _SCALE_BYTES + zero_points
