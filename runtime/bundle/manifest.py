"""The manifest of an engine bundle: the one description of what was built, from what, and for which runtime.

``runtime.bundle`` owns the schema; ``build_engine`` writes through it. A directory without a readable
manifest is not a bundle.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from runtime.bundle.architecture import Architecture, Count, Size

SCHEMA_VERSION = 2


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights came from.

    Attributes:
        kind: ``gguf`` or ``huggingface``.
        name: Recipe name or file name, for people.
        path: Absolute path read at build time.
        digest: SHA-256 over the checkpoint's bytes.
        spec: What ``build`` was given: recipe name or absolute path. Commands in messages use it.
    """

    kind: str
    name: str
    path: str
    digest: str
    spec: str = ""


class KvLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The layout of the KV cache that the graph's ops read.

    Attributes:
        kind: ``paged`` (blocks of ``block_size``) or ``linear`` (one block a sequence).
        block_size: Tokens in a block.
        dtype: Element type of the pools.
        order: Axis order of a pool, for people: the executor's op alone interprets a block.
    """

    kind: Literal["paged", "linear"] = "paged"
    block_size: Count = 16
    dtype: Literal["float16", "float32", "bfloat16"] = "float16"
    order: str = "block,kv_head,token,dim"

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of the pools."""
        return 4 if self.dtype == "float32" else 2


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the bundle: relative name, size in bytes and SHA-256."""

    name: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Verification(msgspec.Struct, frozen=True, kw_only=True, tag_field="of", tag="logits"):
    """How far the built engine is from the float32 reference on the checked-in text.

    Attributes:
        tokens: Positions compared, teacher-forced.
        mean_kl: Mean KL divergence KL(reference || engine), in nats.
        top1_agreement: Share of positions with the same argmax.
        flip_gap: Largest distance of the reference's two best logits at a position where the engine's best token is
            another than the reference's.
        perplexity: Of the engine.
        reference_perplexity: Of the float32 reference.
    """

    tokens: int
    mean_kl: float
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    flip_gap: float | None = None


class ScoreVerification(msgspec.Struct, frozen=True, kw_only=True, tag_field="of", tag="score"):
    """How far a built reward engine is from the float32 reference: scores after every token of the checked-in text.

    Attributes:
        tokens: Positions compared.
        mean_error: Mean absolute difference of the scores.
        max_error: The largest one.
        reference_deviation: Standard deviation of the reference's scores: what errors are to be seen against.
        correlation: Pearson's, of the engine's and the reference's scores.
    """

    tokens: int
    mean_error: float
    max_error: float
    reference_deviation: float
    correlation: float


class ShapeProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Shapes that an optimization profile of a compiled engine takes, each as ``(least, optimal, largest)``.

    Attributes:
        name: ``prefill`` or ``decode``.
        batch: Slots of a run.
        tokens: New tokens of each slot.
        rows: Rows of logits.
    """

    name: str
    batch: tuple[int, int, int]
    tokens: tuple[int, int, int]
    rows: tuple[int, int, int]


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a compiled engine was made of, and what of it was ever run.

    Attributes:
        flavour: Package that compiled it: ``tensorrt`` or ``tensorrt-rtx``.
        version: Of that package; an engine is read by the same version.
        compute_capabilities: GPUs that it was compiled for, such as ``8.6``.
        layers: Layers of the parsed network by type.
        profiles: Optimization profiles, by index.
        plan_bytes: Size of the plan.
        build_seconds: Of parsing and compiling.
        peak_bytes: Peak resident memory of the build until then.
        verified: Whether the plan itself was run, in words.
        oracle: The same graph with the same weights, computed in float32 by onnxruntime on the CPU, against the
            float32 reference. It says that graph and weights are right, and nothing about the plan.
    """

    flavour: str
    version: str
    compute_capabilities: tuple[str, ...]
    layers: dict[str, int]
    profiles: tuple[ShapeProfile, ...]
    plan_bytes: int
    build_seconds: float
    peak_bytes: int
    verified: str
    oracle: Verification | ScoreVerification | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a start has to know before it loads a byte of the engine.

    Attributes:
        target: ``cpu``, ``cuda``, ``tensorrt`` or ``tensorrt-rtx``.
        target_versions: Package name -> version the engine was compiled with.
        precision: Of the linear layers, e.g. ``q8-g32`` or ``fp32``.
        rotated: The residual stream was rotated before weights were quantised, and a tied head became a matrix of its
            own; ``architecture`` is the checkpoint's.
        eos_token_ids: Ids that end a sample.
        bos_token_id: Beginning-of-sequence id, or -1.
        special_tokens: Texts that chat templates ask for by name: ``bos_token``, ``eos_token``, ``pad_token``,
            ``unk_token``, as far as the model has them.
        limits: Upper bounds baked into the engine by name: ``context_length``, and with linear slots ``slots`` and
            ``max_step_tokens``, the longest run of one slot.
        build_seconds: Wall time of the build.
        build_peak_bytes: Peak resident memory of the build.
        created: When, in UTC, ISO 8601.
        verification: ``None`` where it was skipped, or where nothing could run the engine.
        engine: Of engines that a compiler made: their record.
        key: Names everything that decides how the engine comes out; equal keys, equal engines.
    """

    schema: int = SCHEMA_VERSION
    name: str
    source: Source
    architecture: Architecture
    target: str
    target_versions: dict[str, str]
    precision: str
    rotated: bool = False
    kv: KvLayout
    eos_token_ids: tuple[Size, ...]
    bos_token_id: int = -1
    special_tokens: dict[str, str] = {}
    limits: dict[str, Count] = {}
    files: tuple[FileEntry, ...] = ()
    build_seconds: float = 0.0
    build_peak_bytes: int = 0
    created: str = ""
    verification: Verification | ScoreVerification | None = None
    engine: EngineRecord | None = None
    key: str = ""
