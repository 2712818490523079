"""Builds the engine that a configuration asks for."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.sizing import ModelSize, SizingError, choose_limits
from runtime.executors.host import HostExecutor, HostModel
from runtime.limits import EngineLimits
from runtime.memory import available_memory
from runtime.scheduler import Aggressive, FuturePeak

_KV_ELEMENT_BYTES = {"float16": 2, "float32": 4}
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
    threads = config.threads or len(os.sched_getaffinity(0))
    if config.executor == "scripted":
        limits, model, lines = _scripted(config)
    else:
        limits, model, lines = _from_bundle(config, threads)
    executor = HostExecutor(
        model,
        eos_token_ids=frozenset(limits.eos_token_ids),
        max_rows=limits.max_running,
        max_step_tokens=limits.max_step_tokens,
        max_logit_rows=limits.max_running + _SPARE_LOGIT_ROWS,
        max_sequence_tokens=limits.max_request_tokens,
    )
    core = EngineCore(executor, limits, _policy(config), prefix_cache=config.prefix_cache)
    return core, [*lines, *_describe(limits, config)]


def _from_bundle(config: EngineConfig, threads: int) -> tuple[EngineLimits, HostModel, list[str]]:
    from runtime.bundle import open_bundle
    from runtime.executors.ort import OrtModel

    bundle = open_bundle(Path(config.bundle), verify=config.verify_bundle)
    manifest = bundle.manifest
    if manifest.target != "cpu":
        message = f"this version cannot run a bundle for target {manifest.target}: build one with --target cpu"
        raise SizingError(message)
    size = ModelSize(
        context_length=manifest.architecture.context_length,
        block_size=manifest.kv.block_size,
        kv_bytes_per_token=manifest.architecture.kv_bytes_per_token(_KV_ELEMENT_BYTES[manifest.kv.dtype]),
        vocab_size=manifest.architecture.vocab_size,
        eos_token_ids=manifest.eos_token_ids,
        scores=manifest.architecture.score_head is not None,
    )
    available = available_memory()
    if available is not None:
        available -= sum(entry.size for entry in manifest.files)  # the weights come on top
    limits = choose_limits(size, config, available)
    model = OrtModel(
        bundle.path,
        num_blocks=limits.max_total_tokens // limits.block_size,
        max_logit_rows=limits.max_running + _SPARE_LOGIT_ROWS,
        threads=threads,
        spinning=config.spinning,
    )
    return limits, model, [f"model {manifest.name}: {manifest.precision}, {threads} threads"]


def _scripted(config: EngineConfig) -> tuple[EngineLimits, HostModel, list[str]]:
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
    return limits, ScriptedModel(script, limits.max_total_tokens // limits.block_size), ["scripted engine: no model"]


def _policy(config: EngineConfig) -> FuturePeak | Aggressive:
    if config.admission == "aggressive":
        return Aggressive()
    return FuturePeak(
        token_ratio=config.token_ratio,
        assumed_new_tokens=config.router_max_new_tokens,
    )


def _describe(limits: EngineLimits, config: EngineConfig) -> list[str]:
    megabytes = limits.max_total_tokens * limits.kv_bytes_per_token / 2**20
    return [
        *(["reward model: scores instead of text"] if limits.scores else []),
        f"KV cache: {limits.max_total_tokens} tokens in blocks of {limits.block_size}, {megabytes:.0f} MB; "
        f"prefix cache {'on' if config.prefix_cache else 'off'}",
        f"limits: {limits.max_request_tokens} tokens a request, {limits.max_running} in flight, "
        f"{limits.max_queued} queued, {limits.max_step_tokens} tokens a step",
    ]
