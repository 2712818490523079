"""Keys, sites, logs and what is counted for whom, in process."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import falcon.inspect
import pytest
from asgi_driver import Client
from fake_engine import FakeEngine

from runtime.messages import Rejected, RejectReason
from runtime.tenants import TenantLimits
from server.access.key_ring import publish
from server.access.public_paths import public_paths
from server.access.tenant import Tenant
from server.logs import TextFormatter

Serve = Callable[..., None]
ALICE, BOB = "alices-secret-key-1", "bobs-secret-key-22"
SITE = "https://chat.example.com"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(tmp_path: Path) -> str:
    """Alice may read metrics and ask for priority 5."""

    def digest(key: str) -> tuple[str]:
        return (hashlib.sha256(key.encode()).hexdigest(),)

    alice = Tenant(limits=TenantLimits(name="alice"), digests=digest(ALICE), max_priority=5, metrics=True)
    bob = Tenant(limits=TenantLimits(name="bob"), digests=digest(BOB))
    return str(publish([alice, bob], tmp_path))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server writes into its log."""
    stream, logger = io.StringIO(), logging.getLogger("peregrine")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter("http"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


PUBLIC = {
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("HEAD", "/health"),
    ("HEAD", "/healthz"),
    ("GET", "/liveness"),
    ("POST", "/liveness"),
    ("GET", "/readiness"),
    ("POST", "/readiness"),
    ("GET", "/ui"),
    ("GET", "/ui/{name}"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("HEAD", "/ui"),
    ("HEAD", "/ui/{name}"),
    ("HEAD", "/docs"),
    ("HEAD", "/openapi.json"),
}
"""What anybody may ask for."""

READING = {
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/tokens"),
    ("GET", "/token_load"),
    ("GET", "/get_model_name"),
    ("POST", "/get_model_name"),
    ("GET", "/metrics"),
    ("GET", "/ui/state"),
}
"""What tells of the server to those who have a key."""

WORK = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/generate"),
    ("POST", "/generate_stream"),
    ("POST", "/"),
    ("POST", "/get_score"),
    ("POST", "/tokens"),
}
"""What gives the engine or the tokenizer something to do, for the length of the call."""


def test_no_path_changes_the_server(serve: Serve) -> None:
    """A new path has to be put into one of the three sets; what changes state belongs to none of them."""

    async def test(client: Client) -> None:
        served = {
            (method.method, route.path.replace(":path", ""))
            for route in falcon.inspect.inspect_routes(client.app._falcon)
            for method in route.methods
            if not method.internal
        }
        assert served == PUBLIC | READING | WORK

    serve(test)


def test_everything_but_the_public_paths_wants_a_key(serve: Serve, keys: str, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        for method, path in PUBLIC - {("GET", "/ui/{name}"), ("HEAD", "/ui/{name}")}:
            assert (await client.request(method, path)).status == 200, path
        assert (await client.request("GET", "/ui/app.js")).status == 200
        hidden = {(method, path.replace("{name}", "x")) for method, path in READING | WORK}
        hidden |= {("GET", "/nowhere"), ("GET", "/health/"), ("GET", "/ui/nothing.js"), ("OPTIONS", "/generate")}
        hidden |= {("GET", "/HEALTH"), ("GET", "//health"), ("POST", "/ui/../generate"), ("GET", "")}
        for method, path in hidden:
            answer = await client.request(method, path, {"inputs": "hi"})
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"] == 'Bearer realm="peregrine"'

    serve(test, key_ring=keys)
    assert engine.added == []


def test_the_description_says_what_wants_a_key(serve: Serve, keys: str) -> None:
    async def test(client: Client) -> None:
        api = (await client.request("GET", "/openapi.json")).json
        operations = {
            (method.upper(), path): about for path, ways in api["paths"].items() for method, about in ways.items()
        }
        assert {place for place, about in operations.items() if "security" not in about} == PUBLIC
        named = {name for about in operations.values() for way in about.get("security", ()) for name in way}
        assert named == set(api["components"]["securitySchemes"])

    serve(test, key_ring=keys)


def test_public_paths_exist() -> None:
    parts = {path for path in public_paths() if path.startswith("/ui/")}
    assert public_paths() - parts == {path for _, path in PUBLIC} - {"/ui/{name}"}
    assert "/ui/app.js" in parts
    assert "/ui/state" not in parts
    assert public_paths(metrics=True) - public_paths() == {"/metrics"}


@pytest.mark.parametrize(
    "headers",
    [
        bearer(ALICE),
        {"Authorization": f"bearer  {ALICE} "},
        {"X-API-Key": ALICE},
        {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": ALICE},
    ],
)
def test_a_key_opens_the_door(serve: Serve, keys: str, engine: FakeEngine, headers: dict[str, str]) -> None:
    async def test(client: Client) -> None:
        body = {"inputs": "hi", "parameters": {"max_new_tokens": 1}}
        assert (await client.request("POST", "/generate", body, headers)).status == 200

    serve(test, key_ring=keys)
    (added,) = engine.added
    assert (added.tenant, added.salt) == ("alice", "alice")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"),
        (bearer("wrong-secret-key"), "the API key is not valid"),
        (bearer(""), "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"),
        ({"Authorization": ALICE}, "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"),
        (bearer("wrong-secret-key") | {"X-API-Key": ALICE}, "the API key is not valid"),
    ],
)
def test_refusals_speak_the_paths_own_language(serve: Serve, keys: str, headers: dict[str, str], message: str) -> None:
    async def test(client: Client) -> None:
        native = await client.request("POST", "/generate", b"{}", headers)
        assert (native.status, native.json) == (401, {"message": message})
        openai = await client.request("POST", "/v1/completions", b"{}", headers)
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        assert (openai.status, openai.json) == (401, {"error": error})
        head = await client.request("HEAD", "/metrics", headers=headers)
        assert (head.status, head.body, int(head.headers["content-length"])) == (401, b"", len(native.body))

    serve(test, key_ring=keys)


def test_strangers_are_answered_before_their_body_is_read(serve: Serve, keys: str) -> None:
    events: list[str] = []

    async def receive() -> dict[str, Any]:
        events.append("read")
        return {"type": "http.request", "body": b"x", "more_body": events.count("read") < 3}

    async def send(message: dict[str, Any]) -> None:
        events.append(message["type"])

    async def test(client: Client) -> None:
        scope = {"type": "http", "method": "POST", "path": "/generate", "headers": []}
        await client.app(scope, receive, send)

    serve(test, key_ring=keys)
    assert events == ["http.response.start", "http.response.body", "read", "read", "read"]


def test_strangers_cannot_leave_a_body_at_a_public_path(serve: Serve, keys: str) -> None:
    async def test(client: Client) -> None:
        exchange = client.open("POST", "/liveness", [b"x"] * 1000)
        await exchange.start()
        assert exchange.status == 200
        assert len(exchange._messages) == 1000
        await exchange.chunks()

    serve(test, key_ring=keys)


def test_metrics_are_for_those_who_may_read_them(serve: Serve, keys: str) -> None:
    async def test(client: Client) -> None:
        assert (await client.request("GET", "/metrics", headers=bearer(ALICE))).status == 200
        answer = await client.request("GET", "/metrics", headers=bearer(BOB))
        assert (answer.status, answer.json) == (403, {"message": "the key of bob may not read /metrics"})

    serve(test, key_ring=keys)


def test_metrics_can_be_public(serve: Serve, keys: str) -> None:
    async def test(client: Client) -> None:
        assert (await client.request("GET", "/metrics")).status == 200
        assert (await client.request("GET", "/token_load")).status == 401

    serve(test, key_ring=keys, public_metrics=True)


def test_tenants_can_share_the_prefix_cache(serve: Serve, keys: str, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.request("POST", "/generate", {"inputs": "hi", "parameters": {}}, bearer(BOB))

    serve(test, key_ring=keys, shared_prefix_cache=True)
    assert [(added.tenant, added.salt) for added in engine.added] == [("bob", "")]


def test_what_tenants_ask_for_is_counted_by_name(serve: Serve, keys: str, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        body: dict[str, Any] = {"inputs": "hello!", "parameters": {"max_new_tokens": 3}}
        for key in (ALICE, ALICE, BOB):
            await client.request("POST", "/generate", body, bearer(key))
        await client.request("POST", "/generate", {}, bearer(BOB))
        engine.reject = lambda add: Rejected(add.request_id, RejectReason.QUEUE_FULL, "the queue is full", 1)
        await client.request("POST", "/generate", body, bearer(BOB))
        await client.request("POST", "/generate", body)
        lines = (await client.request("GET", "/metrics", headers=bearer(ALICE))).body.decode().splitlines()
        assert sorted(line for line in lines if line.startswith("peregrine_tenant") and "_created" not in line) == [
            'peregrine_tenant_failures_total{status="417",tenant="bob"} 1.0',
            'peregrine_tenant_failures_total{status="503",tenant="bob"} 1.0',
            'peregrine_tenant_generated_tokens_total{tenant="alice"} 6.0',
            'peregrine_tenant_generated_tokens_total{tenant="bob"} 3.0',
            'peregrine_tenant_prompt_tokens_total{tenant="alice"} 4.0',
            'peregrine_tenant_prompt_tokens_total{tenant="bob"} 2.0',
            'peregrine_tenant_requests_total{tenant="alice"} 2.0',
            'peregrine_tenant_requests_total{tenant="bob"} 2.0',
        ]

    serve(test, key_ring=keys)


def test_sites_that_are_named_get_answers_and_others_do_not(serve: Serve, keys: str) -> None:
    async def test(client: Client) -> None:
        def asked(origin: str, **headers: str) -> dict[str, str]:
            return bearer(ALICE) | {"Origin": origin} | headers

        body = {"inputs": "hi", "parameters": {"max_new_tokens": 1}}
        for path, content, status in (
            ("/generate", body, 200),
            ("/generate_stream", body, 200),
            ("/generate", b"{", 417),
            ("/nowhere", b"", 404),
        ):
            answer = await client.request("POST", path, content, asked(SITE))
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == SITE
            assert answer.headers["vary"] == "Origin"
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
        large = await client.open("POST", "/generate", b"x" * 200, asked(SITE)).start()
        assert (large.status, large.headers["access-control-allow-origin"]) == (413, SITE)
        with pytest.raises(ConnectionAbortedError):
            await large.chunks()
        for origin in ("https://example.com", SITE + ".evil.com", SITE.upper(), "null", f"{SITE}:8443", SITE + "/"):
            answer = await client.request("POST", "/generate", body, asked(origin))
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["vary"] == "Origin"
        stranger = await client.request("POST", "/generate", body, {"Origin": SITE})
        assert (stranger.status, stranger.headers["access-control-allow-origin"]) == (401, SITE)

    serve(test, key_ring=keys, cors_origins=(SITE,), max_body_bytes=100)


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}


def test_preflights_need_no_key(serve: Serve, keys: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("OPTIONS", "/v1/chat/completions", headers=PREFLIGHT | {"Origin": SITE})
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "access-control-allow-credentials" not in answer.headers
        other = await client.request("OPTIONS", "/v1/chat/completions", headers=PREFLIGHT | {"Origin": "https://a.b"})
        assert (other.status, "access-control-allow-origin" in other.headers) == (401, False)
        odd = PREFLIGHT | {"Origin": SITE, "Access-Control-Request-Headers": "a: b"}
        answer = await client.request("OPTIONS", "/v1/chat/completions", headers=odd)
        assert "access-control-allow-headers" not in answer.headers

    serve(test, key_ring=keys, cors_origins=(SITE,))


def test_no_site_is_let_in_by_default(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("OPTIONS", "/generate", headers=PREFLIGHT | {"Origin": SITE})
        assert "access-control-allow-origin" not in answer.headers

    serve(test)


def test_all_sites_can_be_let_in_where_there_are_no_keys(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("GET", "/health", headers={"Origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"

    serve(test, cors_origins=("*",))


def test_logs_tell_of_requests_without_their_content(serve: Serve, keys: str, log: io.StringIO) -> None:
    async def test(client: Client) -> None:
        body = {"inputs": "hush hush", "parameters": {"max_new_tokens": 2}}
        await client.request("POST", "/generate", body, bearer(ALICE) | {"X-Request-Id": "ticket-7"})

    serve(test, key_ring=keys)
    (line,) = [line for line in log.getvalue().splitlines() if " request " in line]
    assert " request path=/generate run=1 prompt_tokens=9 output_tokens=2 finish=length seconds=" in line
    assert line.endswith(" request_id=ticket-7 tenant=alice")
    assert "hush" not in log.getvalue()
    assert ALICE not in log.getvalue()


def test_prompts_are_logged_where_that_is_asked_for(serve: Serve, log: io.StringIO) -> None:
    async def test(client: Client) -> None:
        await client.generate(inputs="tell it", max_new_tokens=1)

    serve(test, log_prompts=True)
    assert r"{\"inputs\": \"tell it\"" in log.getvalue()


def test_failed_logins_are_logged_without_the_key(serve: Serve, keys: str, log: io.StringIO) -> None:
    async def test(client: Client) -> None:
        await client.request("POST", "/generate", b"", bearer("alices-secret-key-2") | {"X-Request-Id": "ticket-8"})

    serve(test, key_ring=keys)
    assert (
        'WARNING login_failed peer=127.0.0.1 path=/generate reason="the API key is not valid" request_id=ticket-8\n'
    ) in log.getvalue()
    assert "secret" not in log.getvalue()


def test_the_log_says_who_cut_a_request_short(serve: Serve, engine: FakeEngine, log: io.StringIO) -> None:
    body = {"inputs": "hi", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}

    async def test(client: Client) -> None:
        leaver = await client.open("POST", "/generate_stream", body, {"X-Request-Id": "leaver"}).start()
        leaver.disconnect()
        await leaver.chunks()
        sleeper = await client.open("POST", "/generate_stream", body, {"X-Request-Id": "sleeper"}).start()
        sleeper.reading.clear()
        await asyncio.wait((sleeper.task,))
        engine.reject = lambda add: Rejected(add.request_id, RejectReason.DRAINING, "shutting down", 1)
        await client.request("POST", "/generate", body, {"X-Request-Id": "latecomer"})

    serve(test, stall_seconds=0.1)
    ends = {line.rpartition("request_id=")[2]: line for line in log.getvalue().splitlines() if " request " in line}
    assert "finish=abort" in ends["leaver"]
    assert "aborted_by=client" in ends["leaver"]
    assert "aborted_by=slow_reader" in ends["sleeper"]
    assert 'aborted_by=server error="shutting down"' in ends["latecomer"]
