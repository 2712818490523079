"""``/openapi.json`` says what is served, and what it shows works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import falcon.inspect
import pytest
from asgi_driver import Client
from fake_engine import REWARD_LIMITS, FakeEngine, say, score
from openai_calls import with_template

from server.resources.assets import Asset
from server.routes import routes

Serve = Callable[..., None]


async def document(client: Client) -> Any:
    answer = await client.request("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


@pytest.mark.parametrize(("ui", "tgi"), [(True, False), (False, True)])
def test_what_is_served_is_described_and_nothing_else(serve: Serve, ui: bool, tgi: bool) -> None:
    async def test(client: Client) -> None:
        served = {
            (route.path.replace(":path", ""), method.method)
            for route in falcon.inspect.inspect_routes(client.app._falcon)
            for method in route.methods
            if not method.internal
        }
        paths = (await document(client))["paths"]
        assert {(path, method.upper()) for path, methods in paths.items() for method in methods} == served
        assert ("/ui" in paths, "/docs" in paths) == (ui, ui)

    serve(test, ui=ui, tgi=tgi)


def test_every_type_that_is_referred_to_is_there(serve: Serve) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    async def test(client: Client) -> None:
        api = await document(client)
        schemas = {f"#/components/schemas/{name}" for name in api["components"]["schemas"]}
        assert set(references(api)) == schemas

    serve(test)


@pytest.mark.parametrize("tgi", [False, True])
@pytest.mark.parametrize("path", [route.path for route in routes(lambda: None) if "POST" in route.operations])
def test_examples_work(serve: Serve, engine: FakeEngine, path: str, tgi: bool) -> None:
    if path == "/get_score":
        engine.limits, engine.script = REWARD_LIMITS, score(lambda _: 0.5)
    else:
        engine.script = say("fine")

    async def test(client: Client) -> None:
        operation = (await document(client))["paths"][path]["post"]
        media = operation.get("requestBody", {"content": {}})["content"].get("application/json", {})
        answer = await client.request("POST", path, media["example"] if media else b"")
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"].partition(";")[0] in operation["responses"]["200"]["content"]

    serve(test, prepare=with_template, tgi=tgi)


def test_descriptions_are_what_the_types_say(serve: Serve) -> None:
    async def test(client: Client) -> None:
        schemas = (await document(client))["components"]["schemas"]
        assert schemas["CompletionRequest"]["description"] == "Body of `/v1/completions`."
        assert schemas["GenerateBody"]["properties"]["parameters"] == {"$ref": "#/components/schemas/Parameters"}
        assert "UNSET" not in json.dumps(schemas)

    serve(test)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/ui", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/ui/app.js", "text/javascript; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
    ],
)
def test_pages_may_load_nothing_from_elsewhere(serve: Serve, path: str, media_type: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (200, media_type)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"

    serve(test)


def test_a_page_is_sent_small_and_once(serve: Serve) -> None:
    async def test(client: Client) -> None:
        plain = await client.request("GET", "/ui")
        small = await client.request("GET", "/ui", headers={"Accept-Encoding": "br;q=1, gzip;q=0.8"})
        assert (small.headers["content-encoding"], small.headers["vary"]) == ("gzip", "Accept-Encoding")
        assert len(small.body) < len(plain.body) / 2
        unwanted = await client.request("GET", "/ui", headers={"Accept-Encoding": "gzip;q=0, identity"})
        assert unwanted.body == plain.body
        assert (plain.headers["cache-control"], plain.headers["etag"]) == ("no-cache", small.headers["etag"])
        for known in (plain.headers["etag"], f'"other", {plain.headers["etag"]}'):
            again = await client.request("GET", "/ui", headers={"If-None-Match": known})
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", plain.headers["etag"])

    serve(test)


def test_the_pages_are_small(serve: Serve) -> None:
    async def test(client: Client) -> None:
        pages: dict[str, Asset] = next(
            route.resource._pages
            for route in routes(lambda: None)
            if route.path == "/ui"  # type: ignore[attr-defined]
        )
        assert sum(len(page.content) for page in pages.values()) < 60_000
        assert (await client.request("GET", "/ui/nothing.js")).status == 404

    serve(test)


def test_the_page_is_told_what_the_server_can_do(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("GET", "/ui/state")
        state = answer.json
        assert answer.headers["cache-control"] == "no-store"
        assert (state["model_name"], state["chat"], state["alternatives"], state["scores"]) == ("k", False, True, False)
        assert (state["max_request_tokens"], state["capacity_tokens"], state["running"]) == (256, 1000, 0)
        assert (await client.request("GET", "/ui/state")).json["seconds"] >= state["seconds"]

    serve(test, model_name="k")
