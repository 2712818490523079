"""The slot graph as a TensorRT network, its optimization profiles and its plan.

Every function takes the module: ``tensorrt`` or ``tensorrt_rtx``, whose names are the same. Compiled for real with
TensorRT-RTX; full TensorRT and running a plan on a GPU are untried.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_engine.errors import BuildError
from build_engine.targets.tensorrt_progress import PhaseProgress
from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import ShapeProfile

_LISTED_ERRORS = 3


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """A network, and what has to live as long as it does: its weights lie in the parser's memory."""

    builder: Any
    network: Any
    parser: Any
    log: Any


def parse_network(trt: Any, model: Path) -> ParsedNetwork:
    """Parse the ONNX graph ``model`` and its weight file.

    Raises:
        BuildError: TensorRT cannot start here, or does not take the graph.
    """
    log = _make_log(trt)
    try:
        builder = trt.Builder(log)
    except TypeError:  # NOTE: what the bindings make of a null pointer
        raise BuildError(
            f"{trt.__name__} cannot start: {_said(log) or 'it needs an NVIDIA GPU and its driver'}"
        ) from None
    flags = trt.NetworkDefinitionCreationFlag
    typed = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(os.fspath(model)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        texts = [f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors[:_LISTED_ERRORS]]
        raise BuildError(f"{trt.__name__} {trt.__version__} does not take the graph: {'; '.join(texts) or _said(log)}")
    for attention in _attentions(trt, network):
        # NOTE: where no fused kernel fits (float32, odd head sizes) attention may be made of single steps.
        attention.decomposable = True
    return ParsedNetwork(builder, network, parser, log)


def layer_counts(network: Any) -> dict[str, int]:
    """Layers by type; an attention, which is a pair of boundaries in the network, counts once."""
    names = Counter(network.get_layer(index).type.name for index in range(network.num_layers))
    attentions = names.pop("ATTENTION_INPUT", 0)
    names.pop("ATTENTION_OUTPUT", 0)
    return dict(sorted((names + Counter({"ATTENTION": attentions})).items()))


def check_layers(architecture: Architecture, counts: dict[str, int]) -> None:
    """See that nothing of attention was taken apart on the way.

    Raises:
        BuildError: The network has not the layers that the graph has.
    """
    layers = architecture.num_layers
    wanted = {
        "ATTENTION": 0 if architecture.attention_softcap else layers,
        "KV_CACHE_UPDATE": 2 * layers,
        "ROTARY_EMBEDDING": 2 * layers,
    }
    wrong = [
        f"{counts.get(name, 0)} {name} for {count}" for name, count in wanted.items() if counts.get(name, 0) != count
    ]
    if wrong:
        raise BuildError(f"TensorRT's parser made other layers than the graph has: {', '.join(wrong)}")


def shape_profiles(slots: int, chunk: int) -> tuple[ShapeProfile, ...]:
    """Profile 0 computes a chunk of one slot's prompt, profile 1 one token for each of some slots."""
    return (
        ShapeProfile(name="prefill", batch=(1, 1, 1), tokens=(1, chunk, chunk), rows=(1, 1, chunk)),
        ShapeProfile(name="decode", batch=(1, slots, slots), tokens=(1, 1, 1), rows=(1, slots, slots)),
    )


def compile_plan(
    trt: Any,
    parsed: ParsedNetwork,
    profiles: tuple[ShapeProfile, ...],
    compute_capabilities: tuple[str, ...],
    timing_cache: Path | None,
    progress: PhaseProgress,
) -> Any:
    """Compile the network.

    Args:
        trt: The module.
        parsed: The network.
        profiles: Shapes to compile for.
        compute_capabilities: GPUs to compile for; empty is the machine's own.
        timing_cache: File of measured kernels, which need not exist, or ``None`` for none.
        progress: Told what goes on.

    Returns:
        The plan: an object with the buffer interface and ``nbytes``.

    Raises:
        BuildError: TensorRT gave up.
        BaseException: What interrupted the build.
    """
    config = parsed.builder.create_builder_config()
    for profile in profiles:
        config.add_optimization_profile(_profile(parsed, profile))
    if compute_capabilities:
        config.num_compute_capabilities = len(compute_capabilities)
        for index, name in enumerate(compute_capabilities):
            config.set_compute_capability(_capability(trt, name), index)
    config.progress_monitor = monitor = _make_monitor(trt, progress)
    if timing_cache is not None:
        known = timing_cache.read_bytes() if timing_cache.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), False)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if monitor.interruption is not None:
        raise monitor.interruption
    if plan is None:
        raise BuildError(f"{trt.__name__} {trt.__version__} cannot compile the graph: {_said(parsed.log)}")
    if timing_cache is not None:
        _store(timing_cache, bytes(config.get_timing_cache().serialize()))
    return plan


def capabilities_of(trt: Any) -> tuple[str, ...]:
    """What the module can compile ahead for, as ``8.6``; empty where it compiles for the machine's own GPU only."""
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return tuple(f"{name[2:-1]}.{name[-1]}" for name in members if name.startswith("SM"))


def _capability(trt: Any, name: str) -> Any:
    return trt.ComputeCapability.__members__[f"SM{name.replace('.', '')}"]


def _attentions(trt: Any, network: Any) -> list[Any]:
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name == "ATTENTION_INPUT":
            layer.__class__ = trt.IAttentionInputLayer  # NOTE: the bindings return the base class
            found.append(layer.attention)
    return found


def _profile(parsed: ParsedNetwork, shapes: ShapeProfile) -> Any:
    profile = parsed.builder.create_optimization_profile()
    for index in range(parsed.network.num_inputs):
        tensor = parsed.network.get_input(index)
        cache = tuple(tensor.shape)[1:]
        triples = [
            _shape(tensor.name, cache, batch, tokens, rows)
            for batch, tokens, rows in zip(shapes.batch, shapes.tokens, shapes.rows, strict=True)
        ]
        profile.set_shape(tensor.name, *triples)
    return profile


def _shape(name: str, cache: tuple[int, ...], batch: int, tokens: int, rows: int) -> tuple[int, ...]:
    shapes = {"token_ids": (batch, tokens), "write_indices": (batch,), "logits_rows": (rows,)}
    return shapes.get(name, (batch, *cache))


def _store(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _said(log: Any) -> str:
    """The errors that TensorRT reported, the first ones."""
    return "; ".join(log.errors[:_LISTED_ERRORS])


def _make_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]  # the module is a parameter
        """Keeps errors for the message."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))

    return Log()


def _make_monitor(trt: Any, progress: PhaseProgress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module is a parameter
        """Hands phases on; an exception that reaches a callback ends the build and waits for its end."""

        def __init__(self) -> None:
            super().__init__()
            self.interruption: BaseException | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            try:
                progress.step(name, step)
            except BaseException as error:  # it must not cross TensorRT's frames
                self.interruption = error
            return self.interruption is None

        def phase_finish(self, name: str) -> None:
            progress.finish(name)

    return Monitor()
