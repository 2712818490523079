from __future__ import annotations

from collections.abc import Iterator

import pytest
from attention_cases import forced_isa

from runtime.native import available_isas


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this processor has, in turn."""
    with forced_isa(request.param):
        yield request.param
