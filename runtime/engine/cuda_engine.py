"""Loads an engine on ONNX Runtime's CUDA provider: device, session, KV blocks that fit beside it, executor."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.bundle import Bundle, BundleError
from runtime.bundle.bundle import MODEL_FILE
from runtime.bundle.gpu import find_gpu
from runtime.bundle.manifest_file import build_command
from runtime.config import EngineConfig
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device, Stream
from runtime.cuda.errors import CudaError
from runtime.cuda.kernel_cache import sampling_kernels
from runtime.cuda.sampler import DeviceSampler
from runtime.engine.sizing import (
    DEFAULT_REQUEST_TOKENS,
    HEADROOM_TOKENS,
    ModelSize,
    SizingError,
    choose_limits,
    megabytes,
)
from runtime.engine.slot_sizing import DEVICE_SHARE
from runtime.executors.base import Executor
from runtime.executors.cuda import CudaModel, StepBounds, fixed_bytes, largest_step
from runtime.executors.cuda_session import check_gpu, check_package, first_line, import_onnxruntime, open_session
from runtime.executors.device_executor import DEPTH, DeviceExecutor
from runtime.limits import EngineLimits

_STEP_TOKENS = 1024
"""Of a step, unless the operator says otherwise."""


def load_cuda(
    bundle: Bundle, config: EngineConfig, size: ModelSize, spare_logit_rows: int
) -> tuple[EngineLimits, Executor, list[str]]:
    """The executor of a CUDA bundle on this machine's GPU.

    Args:
        bundle: The bundle.
        config: The operator's wishes.
        size: The model.
        spare_logit_rows: Rows of logits of a step beyond one a row.

    Returns:
        The engine's limits, its executor, and lines for the operator.

    Raises:
        BundleError: The engine cannot run here.
        SizingError: A limit cannot be met.
    """
    check_gpu(find_gpu(), f"{build_command(bundle.manifest.source.spec)} --target cpu")
    ort = import_onnxruntime()
    check_package(ort, bundle.manifest)
    try:
        return assemble(ort, open_device(), bundle, config, size, spare_logit_rows)
    except CudaError as error:
        raise BundleError(f"{bundle.path}: the GPU cannot take the engine: {error}") from error


def assemble(
    ort: Any, device: Device, bundle: Bundle, config: EngineConfig, size: ModelSize, spare_logit_rows: int
) -> tuple[EngineLimits, Executor, list[str]]:
    """As ``load_cuda``, with package and device given.

    Raises:
        BundleError: The package refuses the graph.
        CudaError: A call fails, or device memory is short in spite of the arithmetic.
        SizingError: A limit cannot be met.
    """
    stream = device.stream()
    session = open_session(ort, bundle.path / MODEL_FILE, stream)
    limits = block_limits(size, config, device.memory()[0])
    bounds = _step_bounds(limits, spare_logit_rows)
    _warm_up(ort, session, device, stream, bounds, limits.block_size)
    limits = block_limits(size, config, device.memory()[0] - _beside(size, bounds))
    bounds = _step_bounds(limits, spare_logit_rows)
    blocks = limits.max_total_tokens // limits.block_size
    model = CudaModel(ort, session, device, stream, num_blocks=blocks, bounds=bounds, depth=DEPTH)
    sampler = None if size.scores else _make_sampler(device, stream, limits, bounds)
    executor = DeviceExecutor(
        device,
        stream,
        model,
        sampler,
        max_rows=bounds.rows,
        max_step_tokens=bounds.tokens,
        max_logit_rows=bounds.results,
        max_sequence_tokens=bounds.sequence_tokens,
    )
    name, precision = bundle.manifest.name, bundle.manifest.precision
    where = "{} ({}.{})".format(device.name, *device.compute_capability)
    return limits, executor, [f"model {name}: {precision}, onnxruntime {ort.__version__} on {where}"]


def block_limits(size: ModelSize, config: EngineConfig, free: int) -> EngineLimits:
    """Limits of an engine whose KV blocks lie in device memory, of which ``free`` bytes may be had.

    Raises:
        SizingError: A wish cannot be met, or no block fits.
    """
    total, requests = config.max_total_tokens, config.max_request_tokens
    if total is None:
        usable = int((config.memory_fraction or DEVICE_SHARE) * max(0, free))
        block_bytes = size.block_size * size.kv_bytes_per_token
        total = usable // block_bytes * size.block_size
        if total <= HEADROOM_TOKENS:
            message = (
                f"a KV block of {size.block_size} tokens needs {megabytes(block_bytes)} MB, "
                f"{megabytes(usable)} MB of GPU memory may be used: raise mem_fraction, or free some"
            )
            raise SizingError(message)
    if requests is None:
        requests = max(1, min(DEFAULT_REQUEST_TOKENS, size.context_length, total - HEADROOM_TOKENS))
    wishes = msgspec.structs.replace(
        config,
        max_total_tokens=total,
        max_request_tokens=requests,
        max_step_tokens=config.max_step_tokens or _STEP_TOKENS,
    )
    return msgspec.structs.replace(choose_limits(size, wishes, free), host_logits=False)


def _step_bounds(limits: EngineLimits, spare_logit_rows: int) -> StepBounds:
    return StepBounds(
        tokens=limits.max_step_tokens,
        rows=limits.max_running,
        results=limits.max_running + spare_logit_rows,
        sequence_tokens=limits.max_request_tokens,
    )


def _warm_up(ort: Any, session: Any, device: Device, stream: Stream, bounds: StepBounds, block_size: int) -> None:
    """Run the largest step: what is free afterwards, beside what the session keeps for its next runs, is free for KV.

    It is what fills the package's arena, and where kernels are chosen that no request should wait for.
    """
    step = largest_step(bounds, block_size)
    model = CudaModel(ort, session, device, stream, num_blocks=step.block_table.size, bounds=bounds, depth=1)
    try:
        model.forward(step, None)
        stream.synchronize()
    except CudaError:
        raise
    except Exception as error:
        # NOTE: the package's errors have no class in common.
        have = f"the GPU cannot run a step of {len(step.token_ids)} tokens: {first_line(error)}"
        raise BundleError(have, need="more free GPU memory, or a smaller --batch_max_tokens") from error
    model.close()


def _beside(size: ModelSize, bounds: StepBounds) -> int:
    """Device memory that model and sampler take beside the pools."""
    shape = () if size.scores else (size.vocab_size,)
    sampler = 0 if size.scores else DeviceSampler.nbytes(size.vocab_size, bounds.rows)
    return fixed_bytes(shape, bounds, size.block_size) + sampler


def _make_sampler(device: Device, stream: Stream, limits: EngineLimits, bounds: StepBounds) -> DeviceSampler:
    return DeviceSampler(
        device,
        stream,
        vocab_size=limits.vocab_size,
        max_rows=bounds.rows,
        max_logit_rows=bounds.results,
        eos_token_ids=frozenset(limits.eos_token_ids),
        kernels=device.load(sampling_kernels(device.compute_capability)),
    )
