"""An application on a scripted engine, both in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine
from toy_tokenizer import write_toy_bundle

from server.access.layers import guarded
from server.app import Application
from server.config import WorkerConfig
from server.services import start_services


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """A running fake engine."""
    engine = FakeEngine(tmp_path / "engine.sock").start()
    yield engine
    engine.stop()


@pytest.fixture
def serve(engine: FakeEngine, tmp_path: Path) -> Callable[..., None]:
    """Runs a coroutine function with a ``Client`` of an application.

    ``prepare`` gets the bundle before the application does; other keywords go into its ``WorkerConfig``.
    """

    def run(
        test: Callable[[Client], Awaitable[None]],
        *,
        environ: dict[str, str] | None = None,
        generation_config: str | None = None,
        prepare: Callable[[Path], None] = lambda _: None,
        **config: Any,
    ) -> None:
        bundle = write_toy_bundle(tmp_path / "bundle", generation_config)
        prepare(bundle)
        worker = WorkerConfig(bundle=str(bundle), engine_socket=str(engine.path), **config)

        async def body() -> None:
            app = Application(
                lambda: start_services(worker, environ or {}),
                max_body_bytes=worker.max_body_bytes,
                stall_seconds=worker.stall_seconds,
                request_timeout=worker.request_timeout,
                ui=worker.ui,
                tgi=worker.tgi,
                log_prompts=worker.log_prompts,
                guard=partial(guarded, config=worker),
            )
            async with Client(app) as client:
                await test(client)

        asyncio.run(body())

    return run
