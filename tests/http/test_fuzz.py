"""Calls that ``/openapi.json`` allows, and calls that it does not: no 5xx, and no answer that it is silent of.

``make fuzz-api`` makes many more of them, and others each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openai_calls import with_template
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server_process import ServerProcess
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script
from server.operations import Operation
from server.routes import routes

EXAMPLES = int(os.environ.get("PEREGRINE_FUZZ_EXAMPLES", "0"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CONTEXT = 256
"""Tokens of a request: bounds what a call can cost."""

OPERATIONS = [
    (method, route.path.replace(":path", ""), operation)
    for route in routes(lambda: None)  # type: ignore[arg-type, return-value]
    for method, operation in route.operations.items()
]


def modes(operation: Operation) -> list[GenerationMode]:
    """What can be generated for an operation; one without fields cannot be called wrongly."""
    wrong = [GenerationMode.NEGATIVE] if operation.body or operation.query else []
    return [GenerationMode.POSITIVE, *wrong]


CASES = [
    pytest.param(method, path, mode, id=f"{method} {path} {mode.value}")
    for method, path, operation in OPERATIONS
    for mode in modes(operation)
]


def served(tmp_path_factory: pytest.TempPathFactory, *flags: str, **script: Any) -> Iterator[Any]:
    """What a server with a scripted engine says that it does."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    with_template(bundle)
    scripted = Script(vocab_size=VOCAB_SIZE, first_token=98, max_sequence_tokens=CONTEXT, **script)
    (bundle / "script.json").write_bytes(msgspec.json.encode(scripted))
    with ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *flags) as server:
        url = f"http://127.0.0.1:{server.wait_until_serving().port}"
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from served(tmp_path_factory)


@pytest.fixture(scope="module")
def reward_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from served(tmp_path_factory, scores=True)


@pytest.fixture(scope="module")
def tgi_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from served(tmp_path_factory, "--use_tgi_api")


def fuzz(api: Any, method: str, path: str, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES or 30,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    call()


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_answers_are_described(api: Any, method: str, path: str, mode: GenerationMode) -> None:
    fuzz(api, method, path, mode)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_answers_in_tgis_format_are_described(tgi_api: Any, path: str, mode: GenerationMode) -> None:
    fuzz(tgi_api, "POST", path, mode)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", ["/get_score", "/generate", "/v1/completions"])
def test_answers_of_a_reward_server_are_described(reward_api: Any, path: str, mode: GenerationMode) -> None:
    fuzz(reward_api, "POST", path, mode)
