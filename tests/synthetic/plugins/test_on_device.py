"""The kernels compiled for the GPU and launched through the engine's own device layer, where there is a GPU.

The stand-in device runs the same steps everywhere else, with the kernels compiled for the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from fake_device import FakeDevice
from paged_case import EPSILON, Argument, PagedCase, Runner, host_kernels, make_spec, to_float

from build_engine.plugins.launch import Launch
from build_engine.plugins.spec import AttentionSpec
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device, pointer
from runtime.cuda.errors import CudaError
from runtime.cuda.nvrtc import compile_cubin


def run_on_device(device: Device, cubin: bytes, launch: Launch, arguments: Sequence[Argument]) -> None:
    """Copies the arrays to the device (each once: an array given twice is aliased), launches, copies them back."""
    arrays = {id(argument): argument for argument in arguments if isinstance(argument, np.ndarray)}
    buffers = {key: device.allocate(array.nbytes) for key, array in arrays.items()}
    stream, module = device.stream(), device.load(cubin)
    for key, array in arrays.items():
        stream.upload(buffers[key].address, array)
    values = [pointer(buffers[id(arg)].address) if id(arg) in buffers else arg for arg in arguments]
    stream.launch(module.kernel(launch.kernel), launch.grid, (launch.block, 1, 1), launch.shared_bytes, values)
    stream.synchronize()
    for key, array in arrays.items():
        stream.download(array, buffers[key].address)
    stream.synchronize()
    for resource in (module, stream, *buffers.values()):
        resource.close()


def stand_in(source: str, launch: Launch, arguments: Sequence[Argument], seed: int) -> None:
    device, kernels = FakeDevice(), host_kernels(source)
    device.kernels[launch.kernel] = lambda _, grid, block, shared, args: kernels.launch(
        launch.kernel, grid, block, shared, *args
    )
    run_on_device(device, b"", launch, arguments)


@pytest.fixture(scope="module", params=["stand-in", "gpu"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    if request.param == "stand-in":
        yield stand_in
        return
    try:
        device = open_device()
    except CudaError as error:
        pytest.skip(f"kernels NOT run on a GPU: {error}")
    arch = "sm_{}{}".format(*device.compute_capability)

    def run(source: str, launch: Launch, arguments: Sequence[Argument], seed: int) -> None:
        run_on_device(device, compile_cubin(source, launch.kernel, arch), launch, arguments)

    yield run
    device.close()


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(64, splits=4),
        make_spec(128, "bfloat16", (8, 1), splits=16, qk_norm=True),
        make_spec(256, "bfloat16", sliding_window=200, softcap=20.0, splits=4),
    ],
    ids=["64", "128-norm", "256-window-softcap"],
)
def test_both_kernels_agree_with_the_reference(runner: Runner, spec: AttentionSpec) -> None:
    case = PagedCase.random(spec, [(37, 1), (0, 5), (600, 1), (3, 40), (0, 0)], seed=1)
    case.run = runner
    _, k_cache, v_cache = case.reference()
    queries = case.write()
    got = to_float(case.attend(queries), spec.dtype)
    epsilon = EPSILON[spec.dtype]
    for pool, expected in ((case.k_cache, k_cache), (case.v_cache, v_cache)):
        np.testing.assert_allclose(to_float(pool, spec.dtype), expected, rtol=2 * epsilon, atol=1e-5)
    np.testing.assert_allclose(got, case.attention_reference(queries), rtol=2 * epsilon, atol=4 * epsilon)
