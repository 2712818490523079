"""Loads an engine for a GPU: device, plan, slots that fit beside it, executor."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from runtime.bundle import Bundle, BundleError
from runtime.bundle.bundle import PLAN_FILE
from runtime.bundle.gpu import find_gpu
from runtime.bundle.manifest_file import build_command, serve_command
from runtime.config import EngineConfig
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device, Stream
from runtime.cuda.errors import CudaError
from runtime.cuda.kernel_cache import sampling_kernels
from runtime.cuda.sampler import DeviceSampler
from runtime.engine.sizing import ModelSize
from runtime.engine.slot_sizing import DEVICE_SHARE, SlotBounds, choose_slot_limits
from runtime.executors.base import Executor
from runtime.executors.device_executor import DEPTH, DeviceExecutor
from runtime.executors.device_slots import DeviceSlotModel
from runtime.executors.tensorrt import TensorRtRunner, make_contexts
from runtime.executors.tensorrt_plan import check_gpu, check_version, import_tensorrt, load_plan
from runtime.limits import EngineLimits

_LOGIT_BYTES = 4


def load_tensorrt(
    bundle: Bundle, config: EngineConfig, size: ModelSize, bounds: SlotBounds, spare_logit_rows: int
) -> tuple[EngineLimits, Executor, list[str]]:
    """The executor of a TensorRT bundle on this machine's GPU.

    Args:
        bundle: The bundle.
        config: The operator's wishes.
        size: The model.
        bounds: What the engine was built for.
        spare_logit_rows: Rows of logits of a step beyond one a row.

    Returns:
        The engine's limits, its executor, and lines for the operator.

    Raises:
        BundleError: The plan cannot run here.
        SizingError: A limit cannot be met.
    """
    record = bundle.manifest.engine
    rebuild = f"{build_command(bundle.manifest.source.spec, force=True)} --target {bundle.manifest.target}"
    if record is None:
        raise BundleError(f"{bundle.path}: the manifest does not say what its plan was built for", fix=rebuild)
    check_gpu(record, find_gpu(), rebuild, serve_command(bundle.manifest.source.spec, "cpu"))
    trt = import_tensorrt(record.flavour)
    check_version(record, str(trt.__version__), rebuild)
    try:
        return assemble(trt, open_device(), bundle, config, size, bounds, spare_logit_rows)
    except CudaError as error:
        raise BundleError(f"{bundle.path}: the GPU cannot take the engine: {error}") from error


def assemble(
    trt: Any,
    device: Device,
    bundle: Bundle,
    config: EngineConfig,
    size: ModelSize,
    bounds: SlotBounds,
    spare_logit_rows: int,
) -> tuple[EngineLimits, Executor, list[str]]:
    """As ``load_tensorrt``, with package and device given.

    Raises:
        CudaError: A call fails, or device memory is short in spite of the arithmetic.
    """
    plan = load_plan(trt, bundle.path / PLAN_FILE)
    stream = device.stream()
    contexts = make_contexts(plan, stream)
    free = device.memory()[0] - 2 * spare_logit_rows * size.vocab_size * _LOGIT_BYTES
    row_bytes = size.vocab_size * _LOGIT_BYTES + DeviceSampler.nbytes(size.vocab_size, 1)
    limits = choose_slot_limits(size, bounds, config, free, DEVICE_SHARE, row_bytes=0 if size.scores else row_bytes)
    limits = msgspec.structs.replace(limits, host_logits=False)
    rows, logit_rows = limits.max_running, limits.max_running + spare_logit_rows
    runner = TensorRtRunner(plan, contexts, device, stream, slots=rows, logit_rows=spare_logit_rows)
    promised = (size.block_size, () if size.scores else (size.vocab_size,))
    if (runner.capacity, runner.result_shape) != promised:
        have = f"{bundle.path}: the plan has slots of {runner.capacity} tokens and results {runner.result_shape}"
        raise BundleError(have, need="slots of {} tokens and results {}, as its manifest says".format(*promised))
    model = DeviceSlotModel(
        device, stream, runner, max_step_tokens=limits.max_step_tokens, max_logit_rows=logit_rows, depth=DEPTH
    )
    sampler = None if size.scores else _make_sampler(device, stream, limits, logit_rows)
    began = time.perf_counter()
    model.warm_up(sampler.gather_tokens if sampler else None)
    stream.synchronize()
    warmed = time.perf_counter() - began
    executor = DeviceExecutor(
        device,
        stream,
        model,
        sampler,
        max_rows=rows,
        max_step_tokens=limits.max_step_tokens,
        max_logit_rows=logit_rows,
        max_sequence_tokens=limits.max_request_tokens,
    )
    name, precision = bundle.manifest.name, bundle.manifest.precision
    where = "{} ({}.{})".format(device.name, *device.compute_capability)
    lines = [
        f"model {name}: {precision}, {bundle.manifest.target} {trt.__version__} on {where}",
        f"first runs: {len(runner.batch_sizes)} batch sizes and a prompt in {warmed:.1f} s",
    ]
    return limits, executor, lines


def _make_sampler(device: Device, stream: Stream, limits: EngineLimits, logit_rows: int) -> DeviceSampler:
    kernels = device.load(sampling_kernels(device.compute_capability))
    return DeviceSampler(
        device,
        stream,
        vocab_size=limits.vocab_size,
        max_rows=limits.max_running,
        max_logit_rows=logit_rows,
        eos_token_ids=frozenset(limits.eos_token_ids),
        kernels=kernels,
    )
