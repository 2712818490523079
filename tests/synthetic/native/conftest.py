from __future__ import annotations

from collections.abc import Iterator

import pytest
from attention_cases import forced_isa
from linear_cases import available_linear_isas, forced_linear_isa

from runtime.native import available_isas


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
