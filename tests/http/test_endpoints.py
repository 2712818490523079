"""The endpoints beside generation, and errors in general, in process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine

from runtime.messages import Rejected, RejectReason
from runtime.stats import EngineStats

Serve = Callable[..., None]


def test_health_answers_get_and_head(serve: Serve) -> None:
    async def test(client: Client) -> None:
        for path in ("/health", "/healthz"):
            answer = await client.request("GET", path)
            assert (answer.status, answer.body) == (200, b'{"message":"Ok"}')
            head = await client.request("HEAD", path)
            assert (head.status, head.headers["content-length"], head.body) == (200, "16", b"")

    serve(test)


def test_a_silent_engine_is_unhealthy(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        client.app.services().client._last_message = float("-inf")
        engine.mute.set()
        answer = await client.request("GET", "/health")
        assert (answer.status, answer.json) == (503, {"message": "Error"})
        assert (await client.request("GET", "/liveness")).status == 200

    serve(test, environ={"HEALTH_TIMEOUT": "0"})


def test_health_can_be_forced_to_fail(serve: Serve) -> None:
    async def test(client: Client) -> None:
        assert (await client.request("GET", "/health")).status == 503

    serve(test, environ={"DEBUG_HEALTHCHECK_RETURN_FAIL": "true"})


@pytest.mark.parametrize("path", ["/liveness", "/readiness"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_probes_answer_get_and_post(serve: Serve, path: str, method: str) -> None:
    async def test(client: Client) -> None:
        assert (await client.request(method, path)).json == {"status": "ok"}

    serve(test)


def test_the_model_name_is_the_configured_one(serve: Serve) -> None:
    async def test(client: Client) -> None:
        assert (await client.request("GET", "/get_model_name")).json == {"model_name": "kestrel"}
        assert (await client.request("POST", "/get_model_name")).json == {"model_name": "kestrel"}

    serve(test, model_name="kestrel")


def test_token_load_is_a_share_of_the_cache(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        idle = (await client.request("GET", "/token_load")).json
        assert idle == {"current_load": 0.0, "logical_max_load": 0.0, "dynamic_max_load": 0.0}
        engine.stats = EngineStats(capacity_tokens=200, used_tokens=50, peak_tokens=100)
        busy = (await client.request("GET", "/token_load")).json
        assert busy == {"current_load": 0.25, "logical_max_load": 0.5, "dynamic_max_load": 0.5}

    serve(test)


@pytest.mark.parametrize(
    ("method", "target", "body", "tokens"),
    [
        ("POST", "/tokens", {"text": "hello!"}, 2),
        ("GET", "/tokens", {"text": "hello!"}, 2),
        ("GET", "/tokens?text=hello%20hello", b"", 3),
        ("POST", "/tokens", {"text": "hi", "parameters": {"max_new_tokens": 5}}, 2),
        ("POST", "/tokens", {"text": "hi", "parameters": {"add_special_tokens": False}}, 2),
        ("POST", "/tokens", {"text": ""}, 0),
    ],
)
def test_tokens_counts(serve: Serve, method: str, target: str, body: Any, tokens: int) -> None:
    async def test(client: Client) -> None:
        assert (await client.request(method, target, body)).json == {"ntokens": tokens}

    serve(test)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"text":[1]}', b'{"text":"a","multimodal_params":{"images":[{}]}}', b"[1"]
)
def test_tokens_errors_begin_with_error(serve: Serve, body: bytes) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("POST", "/tokens", body)
        assert answer.status == 417
        assert answer.json["message"].startswith("error: ")

    serve(test)


@pytest.mark.parametrize(("body", "names"), [({}, "chat"), ({"chat": "hello"}, "score"), ({"chat": 3}, "chat")])
def test_scores_need_another_model(serve: Serve, body: Any, names: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("POST", "/get_score", body)
        assert answer.status == 417
        assert names in answer.json["message"]

    serve(test)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/nowhere", 404, b'{"detail":"Not Found"}'),
        ("GET", "/generate", 405, b'{"detail":"Method Not Allowed"}'),
        ("GET", "/", 405, b'{"detail":"Method Not Allowed"}'),
        ("DELETE", "/health", 405, b'{"detail":"Method Not Allowed"}'),
        ("FETCH", "/health", 405, b'{"detail":"Method Not Allowed"}'),
    ],
)
def test_routing_errors(serve: Serve, method: str, path: str, status: int, body: bytes) -> None:
    async def test(client: Client) -> None:
        answer = await client.request(method, path)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (status, body, "application/json")

    serve(test)


def test_errors_have_three_keys(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(max_new_tokens=0)
        assert (answer.status, answer.headers["content-type"]) == (417, "application/json")
        assert answer.json == {
            "message": "max_new_tokens must be at least 1, not 0",
            "error_code": "invalid_value",
            "param": "max_new_tokens",
        }

    serve(test)


def test_a_websocket_is_turned_away(serve: Serve) -> None:
    async def test(client: Client) -> None:
        sent = []

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, str]) -> None:
            sent.append(message)

        await client.app({"type": "websocket", "path": "/pd_register", "headers": []}, receive, send)
        assert sent == [{"type": "websocket.close"}]

    serve(test)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_the_content_type_of_a_request_does_not_matter(serve: Serve, content_type: str) -> None:
    async def test(client: Client) -> None:
        body = {"inputs": "hi", "parameters": {"max_new_tokens": 1}}
        assert (await client.request("POST", "/generate", body, {"Content-Type": content_type})).status == 200

    serve(test)


def test_unexpected_errors_tell_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def test(client: Client) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("secret")

        object.__setattr__(client.app.services(), "generator", type("Broken", (), {"start": broken})())
        answer = await client.generate()
        assert (answer.status, answer.json) == (500, {"message": "internal error"})

    serve(test)
    assert "secret" in caplog.text


def test_metrics_have_both_families_of_names(serve: Serve, engine: FakeEngine) -> None:
    engine.stats = EngineStats(
        running=3, waiting=2, paused=1, capacity_tokens=100, used_tokens=40, steps_total=7, accepted_tokens_total=5
    )

    async def test(client: Client) -> None:
        before = (await client.request("GET", "/metrics")).body.decode()
        assert "lightllm_request_count_total 0.0" in before
        await client.generate(max_new_tokens=3)
        await client.generate(max_new_tokens=0)
        answer = await client.request("GET", "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        for line in (
            "lightllm_request_count_total 1.0",
            "lightllm_request_success_total 1.0",
            "lightllm_request_failure_total 1.0",
            "lightllm_request_first_token_duration_count 1.0",
            "lightllm_request_queue_duration_bucket_count 1.0",
            "lightllm_request_generated_tokens_sum 3.0",
            "lightllm_queue_size 2.0",
            "lightllm_batch_current_size 3.0",
            "lightllm_batch_pause_size 1.0",
            'lightllm_batch_inference_count_total{method="step"} 7.0',
            "peregrine_quarantined_requests_total 0.0",
            'vllm:num_requests_running{model_name="default_model_name"} 3.0',
            'vllm:kv_cache_usage_perc{model_name="default_model_name"} 0.4',
            'vllm:spec_decode_num_accepted_tokens_total{model_name="default_model_name"} 5.0',
            'vllm:request_success_total{finished_reason="length",model_name="default_model_name"} 1.0',
            'vllm:inter_token_latency_seconds_count{model_name="default_model_name"} 2.0',
        ):
            assert line in answer.body.decode().splitlines()

    serve(test)


@pytest.mark.parametrize("path", ["/ui", "/ui/style.css", "/docs", "/openapi.json"])
def test_pages_answer_head_with_the_headers_alone(serve: Serve, path: str) -> None:
    async def test(client: Client) -> None:
        whole, head = await client.request("GET", path), await client.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers | {"x-request-id": ""} == whole.headers | {"x-request-id": ""}
        assert int(head.headers["content-length"]) == len(whole.body)

    serve(test)


def test_the_gap_between_tokens_is_that_of_an_output(serve: Serve) -> None:
    async def test(client: Client) -> None:
        await client.generate(max_new_tokens=4, best_of=3, n=3)
        lines = (await client.request("GET", "/metrics")).body.decode().splitlines()
        assert 'vllm:inter_token_latency_seconds_count{model_name="default_model_name"} 9.0' in lines
        assert "lightllm_request_first_token_duration_count 1.0" in lines

    serve(test)


def test_a_request_that_never_ran_is_in_no_histogram(serve: Serve, engine: FakeEngine) -> None:
    engine.reject = lambda add: Rejected(add.request_id, RejectReason.QUEUE_FULL, "the queue is full", 1)

    async def test(client: Client) -> None:
        assert (await client.generate(max_new_tokens=4)).status == 503
        text = (await client.request("GET", "/metrics")).body.decode()
        assert "lightllm_request_input_length_count 0.0" in text
        assert 'finished_reason="abort"' not in text
        rejected = 'vllm:admission_rejections_total{model_name="default_model_name",reason="queue_full"} 1.0'
        assert rejected in text.splitlines()

    serve(test)
