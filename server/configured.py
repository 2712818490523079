"""The application that a configuration asks for, whoever runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from server.access.layers import guarded
from server.app import Application
from server.config import WorkerConfig
from server.drain import Departure
from server.exchange import Witness
from server.services import Services


def configured_application(
    config: WorkerConfig,
    start: Callable[[], Awaitable[Services]],
    witnesses: Sequence[Witness] = (),
    departure: Departure | None = None,
) -> Application:
    """An ``Application`` behind what keeps strangers out.

    Args:
        config: Of the worker.
        start: As ``Application`` has it, and so the others.
        witnesses: See there.
        departure: See there.
    """
    return Application(
        start,
        max_body_bytes=config.max_body_bytes,
        body_seconds=config.body_seconds,
        stall_seconds=config.stall_seconds,
        request_timeout=config.request_timeout,
        ui=config.ui,
        tgi=config.tgi,
        log_prompts=config.log_prompts,
        guard=partial(guarded, config=config),
        departure=departure,
        witnesses=witnesses,
    )
