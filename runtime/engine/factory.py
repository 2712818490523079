"""Builds the engine that a configuration asks for."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from runtime.bundle import Bundle, BundleError, Manifest
from runtime.bundle.bundle import TOKENIZER_FILE
from runtime.bundle.manifest_file import build_command
from runtime.config import EngineConfig
from runtime.constraints.compiler import GrammarCompiler
from runtime.constraints.vocabulary import load_vocabulary
from runtime.engine.core import EngineCore
from runtime.engine.sizing import ModelSize, SizingError, choose_limits
from runtime.engine.slot_sizing import HOST_SHARE, SlotBounds, choose_slot_limits
from runtime.executors.base import Executor
from runtime.executors.host import HostExecutor, HostModel
from runtime.limits import EngineLimits
from runtime.memory import available_memory
from runtime.native import NativeLibraryError
from runtime.sampling import NumpySampler, RowSampler
from runtime.sampling.native_sampler import NativeSampler
from runtime.scheduler import AdmissionPolicy, Aggressive, FuturePeak, MeasuredSpeculation, PastFuture, PromptLookup

_SPARE_LOGIT_ROWS = 64
"""Rows of logits beyond one a row, so that prompt log-probabilities get on beside a full batch."""


def build_engine(config: EngineConfig) -> tuple[EngineCore, list[str]]:
    """Load the model and choose the limits.

    Returns:
        The engine, and lines that tell the operator what was chosen.

    Raises:
        SizingError: A limit cannot be met.
        BundleError: The bundle cannot be used here.
    """
    compiler: GrammarCompiler | None = None
    if config.executor == "scripted":
        limits, executor, lines = _scripted(config)
    else:
        limits, executor, compiler, lines = _from_bundle(config)
    core = EngineCore(
        executor,
        limits,
        _policy(config),
        prefix_cache=config.prefix_cache,
        speculation=None if config.speculation == "off" else MeasuredSpeculation(PromptLookup()),
        compiler=compiler,
        tenants=config.tenants,
    )
    return core, [*lines, *_describe(limits, config, sharing=executor.capabilities.prefix_sharing)]


def _from_bundle(config: EngineConfig) -> tuple[EngineLimits, Executor, GrammarCompiler | None, list[str]]:
    from runtime.bundle import open_bundle

    bundle = open_bundle(Path(config.bundle), verify=config.verify_bundle)
    manifest = bundle.manifest
    if manifest.target in ("tensorrt", "tensorrt-rtx"):
        from runtime.engine.device_engine import load_tensorrt

        slots = _slot_bounds(manifest)
        limits, executor, lines = load_tensorrt(bundle, config, _model_size(manifest), slots, _SPARE_LOGIT_ROWS)
        return limits, executor, None, lines
    if manifest.target == "cuda":
        from runtime.engine.cuda_engine import load_cuda

        limits, executor, lines = load_cuda(bundle, config, _model_size(manifest), _SPARE_LOGIT_ROWS)
        return limits, executor, None, lines
    if manifest.target != "cpu":
        message = f"this version cannot run a bundle for target {manifest.target}: build one with --target cpu"
        raise SizingError(message)
    threads = config.threads or len(os.sched_getaffinity(0))
    load = _load_slots if manifest.kv.kind == "linear" else _load_paged
    limits, model = load(bundle, config, threads)
    compiler = _compiler(bundle, limits)
    limits = msgspec.structs.replace(limits, constraints=compiler is not None)
    sampler, notes = _sampler(limits, threads)
    executor = _host_executor(model, limits, prefix_sharing=manifest.kv.kind == "paged", sampler=sampler)
    return limits, executor, compiler, [f"model {manifest.name}: {manifest.precision}, {threads} threads", *notes]


def _compiler(bundle: Bundle, limits: EngineLimits) -> GrammarCompiler | None:
    """What compiles constraints, for a model that writes and can end."""
    path = bundle.path / TOKENIZER_FILE
    if limits.scores or not limits.eos_token_ids or not path.is_file():
        return None
    return GrammarCompiler(lambda: load_vocabulary(path, limits.vocab_size, limits.eos_token_ids))


def _load_paged(bundle: Bundle, config: EngineConfig, threads: int) -> tuple[EngineLimits, HostModel]:
    from runtime.executors.ort import OrtModel

    limits = choose_limits(_model_size(bundle.manifest), config, _memory_beside(bundle.manifest))
    model = OrtModel(
        bundle.path,
        num_blocks=limits.max_total_tokens // limits.block_size,
        max_logit_rows=limits.max_running + _SPARE_LOGIT_ROWS,
        threads=threads,
        spinning=config.spinning,
    )
    return limits, model


def _load_slots(bundle: Bundle, config: EngineConfig, threads: int) -> tuple[EngineLimits, HostModel]:
    from runtime.executors.ort_slots import OrtSlotRunner
    from runtime.executors.slot_model import SlotModel

    size, bounds = _model_size(bundle.manifest), _slot_bounds(bundle.manifest)
    limits = choose_slot_limits(size, bounds, config, _memory_beside(bundle.manifest), HOST_SHARE)
    runner = OrtSlotRunner(
        bundle.path, slots=limits.max_running, chunk=bounds.chunk, threads=threads, spinning=config.spinning
    )
    return limits, SlotModel(runner, limits.max_running + _SPARE_LOGIT_ROWS)


def _slot_bounds(manifest: Manifest) -> SlotBounds:
    """What an engine with linear slots was built for."""
    absent = {"slots", "max_step_tokens", "context_length"} - set(manifest.limits)
    if absent:
        have = f"the engine's manifest does not say its {', '.join(sorted(absent))}"
        raise BundleError(have, need="an intact bundle", fix=build_command(manifest.source.spec, force=True))
    return SlotBounds(slots=manifest.limits["slots"], chunk=manifest.limits["max_step_tokens"])


def _model_size(manifest: Manifest) -> ModelSize:
    architecture = manifest.architecture
    return ModelSize(
        context_length=min(architecture.context_length, manifest.limits.get("context_length", 2**31)),
        block_size=manifest.kv.block_size,
        kv_bytes_per_token=architecture.kv_bytes_per_token(manifest.kv.element_bytes),
        vocab_size=architecture.vocab_size,
        eos_token_ids=manifest.eos_token_ids,
        scores=architecture.score_head is not None,
    )


def _memory_beside(manifest: Manifest) -> int | None:
    """Bytes of host memory that are left when the weights are in it."""
    available = available_memory()
    return None if available is None else available - sum(entry.size for entry in manifest.files)


def _scripted(config: EngineConfig) -> tuple[EngineLimits, Executor, list[str]]:
    from runtime.executors.scripted import Script, ScriptedModel

    script = msgspec.json.decode(Path(config.bundle).read_bytes(), type=Script)
    size = ModelSize(
        context_length=script.max_sequence_tokens,
        block_size=script.block_size,
        kv_bytes_per_token=8,
        vocab_size=script.vocab_size,
        eos_token_ids=script.eos_token_ids,
        scores=script.scores,
    )
    total = config.max_total_tokens or 8 * script.max_sequence_tokens
    limits = choose_limits(size, msgspec.structs.replace(config, max_total_tokens=total), available_memory())
    model = ScriptedModel(script, limits.max_total_tokens // limits.block_size)
    return limits, _host_executor(model, limits), ["scripted engine: no model"]


def _sampler(limits: EngineLimits, threads: int) -> tuple[RowSampler, list[str]]:
    """The native sampler or, where the library cannot be had, NumPy's and a line that says so."""
    eos = frozenset(limits.eos_token_ids)
    try:
        return NativeSampler(eos, max_rows=limits.max_running, threads=threads), []
    except NativeLibraryError as error:
        return NumpySampler(eos), [f"sampling without native code, which is slower: {error}"]


def _host_executor(
    model: HostModel, limits: EngineLimits, *, prefix_sharing: bool = True, sampler: RowSampler | None = None
) -> HostExecutor:
    return HostExecutor(
        model,
        eos_token_ids=frozenset(limits.eos_token_ids),
        max_rows=limits.max_running,
        max_step_tokens=limits.max_step_tokens,
        max_logit_rows=limits.max_running + _SPARE_LOGIT_ROWS,
        max_sequence_tokens=limits.max_request_tokens,
        prefix_sharing=prefix_sharing,
        sampler=sampler,
    )


def _policy(config: EngineConfig) -> AdmissionPolicy:
    if config.admission == "aggressive":
        return Aggressive()
    if config.admission == "past_future":
        return PastFuture()
    return FuturePeak(
        token_ratio=config.token_ratio,
        assumed_new_tokens=config.router_max_new_tokens,
    )


def _describe(limits: EngineLimits, config: EngineConfig, *, sharing: bool) -> list[str]:
    blocks = (
        f"blocks of {limits.block_size}" if sharing else f"{limits.max_running} linear slots of {limits.block_size}"
    )
    megabytes = limits.max_total_tokens * limits.kv_bytes_per_token / 2**20
    return [
        *(["reward model: scores instead of text"] if limits.scores else []),
        f"KV cache: {limits.max_total_tokens} tokens in {blocks}, {megabytes:.0f} MB; "
        f"prefix cache {'on' if config.prefix_cache and sharing else 'off'}",
        f"limits: {limits.max_request_tokens} tokens a request, {limits.max_running} in flight, "
        f"{limits.max_queued} queued of {limits.max_queued_tokens} tokens, {limits.max_step_tokens} tokens a step",
    ]
