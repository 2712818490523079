from __future__ import annotations

from collections.abc import Iterator

import pytest
from attention_cases import forced_isa
from linear_cases import available_linear_isas, forced_linear_isa
from native_driver.calls import Driver, build_driver

from runtime.native import available_isas, library_path
from runtime.native.build import BuildError


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this processor has, in turn."""
    with forced_isa(request.param):
        yield request.param


@pytest.fixture(params=available_linear_isas())
def linear_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every kernel of the linear op that this processor has, in turn."""
    with forced_linear_isa(request.param):
        yield request.param


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Calls the library with its memory between pages that may not be touched."""
    try:
        program = build_driver(tmp_path_factory.mktemp("driver") / "driver")
    except BuildError as error:
        pytest.skip(str(error))
    opened = Driver(program, library_path())
    yield opened
    opened.close()
