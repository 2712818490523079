"""Lines in the log: who they belong to, and that nothing in them can pass for another line."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

from server.logs import Event, TextFormatter, json_formatter
from server.request_context import RequestContext, entered

ALICE = RequestContext(request_id="ticket-7", tenant="alice")


def lines(formatter: logging.Formatter, *messages: Any, error: bool = False) -> list[str]:
    """What a logger writes about a request of Alice's."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("peregrine.test")
    logger.addHandler(handler)
    with entered(ALICE):
        for message in messages:
            if error:
                try:
                    raise RuntimeError("broken")
                except RuntimeError:
                    logger.exception(message)
            else:
                logger.info(message)
    return stream.getvalue().splitlines()


def test_a_line_of_text_ends_with_its_request() -> None:
    (line,) = lines(TextFormatter("http"), "a message")
    assert line.endswith("INFO a message request_id=ticket-7 tenant=alice")


def test_a_line_of_json_has_its_request_and_the_fields_of_an_event() -> None:
    (line,) = lines(json_formatter("http"), Event("request", seconds=0.25, finish="stop"))
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields.pop("pid") > 0
    assert fields == {
        "level": "info",
        "process": "http",
        "logger": "peregrine.test",
        "message": "request",
        "request_id": "ticket-7",
        "tenant": "alice",
        "seconds": 0.25,
        "finish": "stop",
    }


def test_a_traceback_is_part_of_the_object() -> None:
    (line,) = lines(json_formatter("http"), "failed", error=True)
    assert json.loads(line)["exception"].endswith("RuntimeError: broken")
    assert json.loads(line)["request_id"] == "ticket-7"
    text = lines(TextFormatter("http"), "failed", error=True)
    assert text[0].endswith("failed request_id=ticket-7 tenant=alice")
    assert text[-1] == "RuntimeError: broken"


def test_values_cannot_pass_for_fields_or_lines() -> None:
    assert str(Event("e", path="/a b\nc=d", empty="", seconds=0.12345)) == 'e path="/a b\\nc=d" empty="" seconds=0.123'
    assert len(lines(json_formatter("http"), Event("e", path="/\n\ud800"))) == 1
