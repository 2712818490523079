"""The library under the compiler's sanitizers: `make sanitize`, for compiling it anew takes a minute or two.

Threads are looked at through the driver, since onnxruntime, which is not instrumented, hands work over in ways that
the thread sanitizer cannot see. Addresses are looked at through the driver and in the native tests themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attention_cases import Layout
from driver_cases import attention, conversion, embedding, linear, sampling, silu_mul
from linear_cases import available_linear_isas
from native_driver.calls import Call, Driver, build_driver

from runtime.native import available_isas
from runtime.native.build import BuildError, build_library

pytestmark = pytest.mark.sanitize

SERVED = Layout(num_heads=9, kv_num_heads=3, head_dim=64, cache="bfloat16")
SMALL = Layout(num_heads=4, kv_num_heads=2, head_dim=20, block_size=5, sliding_window=90, norms=True)
WIDE = Layout(head_dim=48, block_size=32, sliding_window=90, softcap=20.0, cache="float16")
PAIRS = Layout(head_dim=20, sliding_window=90, cache="bfloat16")
LAYOUTS = {"served": SERVED, "float32": SMALL, "float16": WIDE, "bfloat16, not packed": PAIRS}
LENGTHS = {
    "a long context": [(1, 2500)],
    "a prompt": [(300, 700)],
    "decodes": [(1, 90 * i) for i in range(9)],
    "all at once": [(1, 1300), (70, 0), (0, 5), (1, 0), (200, 33)],
}
Q4 = {"bits": 4, "offsets": True}
Q8 = {"bits": 8, "group": 64}
MIXED = [
    {"top_k": 1},
    {"top_k": -1, "temperature": 0.7},
    {"top_k": 40, "top_p": 0.9, "filtered": 1, "counted": 7, "repetition_penalty": 1.2},
    {"allowed": 9, "min_new_tokens": 3},
]
ATTENTION = {
    f"attention: {layout}, {lengths}": attention(LAYOUTS[layout], LENGTHS[lengths])
    for layout in LAYOUTS
    for lengths in LENGTHS
}
LINEAR = {
    "linear: a row": linear(960, 576, 1, Q4),
    "linear: rows": linear(100, 1536, 37, Q8, bias=True),
    "linear: a prompt": linear(576, 576, 300, Q4),
    "linear: swiglu": linear(256, 192, 70, Q4, gain=True, swiglu=True),
    "linear: a row between norm and residual": linear(576, 576, 1, Q4, gain=True, residual=True),
    "linear: rows between norm and residual": linear(100, 1536, 37, Q8, bias=True, gain=True, residual=True),
    "linear: a prompt between norm and residual": linear(330, 576, 300, Q4, gain=True, residual=True),
}
OTHERS = {
    "sampling: every kind": sampling(3000, MIXED * 5, threads=4),
    "sampling: a row": sampling(50, MIXED[:1], threads=4),
    "sampling: greedy": sampling(5000, MIXED[:1] * 16, threads=2),
    "embedding": embedding(100, 576, 500, Q4),
    "SwiGLU": silu_mul(64, 1536),
    "conversion": conversion(1000, to_half=True),
}


def instrumented(folder: Path, sanitizers: str) -> Driver:
    try:
        program = build_driver(folder / "driver", sanitizers)
        library = build_library(folder / "library.so", sanitizers=sanitizers)
    except (BuildError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this compiler has no -fsanitize={sanitizers}: {error}")
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    # NOTE: older thread sanitizers refuse a memory layout as random as newer kernels make it.
    setarch = shutil.which("setarch")
    for launcher in [[], *([[setarch, "-R"]] if setarch else [])]:
        started = subprocess.run([*launcher, program, library], env=environment, stdin=subprocess.DEVNULL, check=False)
        if started.returncode == 0:
            return Driver(program, library, environment, launcher)
    pytest.skip(f"programs with -fsanitize={sanitizers} do not run here")


@pytest.fixture(scope="module")
def threads_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    opened = instrumented(tmp_path_factory.mktemp("thread"), "thread")
    yield opened
    assert opened.close() == ""


@pytest.fixture(scope="module")
def addresses_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    opened = instrumented(tmp_path_factory.mktemp("address"), "address,undefined")
    yield opened
    assert opened.close() == ""


def check(driver: Driver, case: Call, isa: str, linear_isa: str = "") -> None:
    for threads, callers in [(4, 1), (2, 3)]:
        driver.run(case, isa, linear_isa, threads=threads, callers=callers)


@pytest.mark.parametrize("case", [*ATTENTION, *LINEAR, *OTHERS])
def test_threads_do_not_race(threads_driver: Driver, case: str) -> None:
    check(threads_driver, (ATTENTION | LINEAR | OTHERS)[case], available_isas()[0])


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("case", [*ATTENTION, *OTHERS])
def test_addresses_are_right(addresses_driver: Driver, case: str, isa: str) -> None:
    check(addresses_driver, (ATTENTION | OTHERS)[case], isa)


@pytest.mark.parametrize("linear_isa", available_linear_isas())
@pytest.mark.parametrize("case", LINEAR)
def test_addresses_of_the_linear_op_are_right(addresses_driver: Driver, case: str, linear_isa: str) -> None:
    check(addresses_driver, LINEAR[case], available_isas()[0], linear_isa)


def test_the_native_tests_have_no_bad_address_and_no_undefined_behaviour(addresses_driver: Driver) -> None:
    runtimes = [runtime_of(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")]
    here = Path(__file__).parent
    tests = [
        str(file) for file in sorted(here.glob("test_*.py")) if file.name not in (Path(__file__).name, "test_bounds.py")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # CPython's own
        "PEREGRINE_INSTRUMENTED_LIBRARY": str(addresses_driver.library),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "native_driver.instrumented", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *tests], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


def runtime_of(name: str) -> str:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++, whose sanitizers Python would have to preload")
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not Path(path).is_file():
        pytest.skip(f"g++ has no {name}")
    return path
