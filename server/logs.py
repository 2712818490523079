"""Logging of this package's own messages: as text, or as JSON for machines."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

from runtime.logs import JsonFormatter, LogFormat
from server.request_context import current

LEVELS = ("debug", "info", "warning", "error")
_announced_as: LogFormat = "text"
_PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+-]+")


class Event:
    """A message of a name and fields, for those who read logs by program.

    Args:
        name: What happened.
        fields: About it.
    """

    def __init__(self, name: str, **fields: Any) -> None:
        self.name, self.fields = name, fields

    def __str__(self) -> str:
        return " ".join([self.name, *_pairs(self.fields)])


class TextFormatter(logging.Formatter):
    """A line of text, with the request that it belongs to at its end.

    Args:
        process: Shown in each line.
    """

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process}[%(process)d] %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """The line without a traceback."""
        return " ".join([super().formatMessage(record), *_pairs(_request())])


def json_formatter(process: str) -> JsonFormatter:
    """One object a line, with the request's and the event's fields."""
    return JsonFormatter(process, lambda record: _request() | _event(record))


def configure_logging(level: str, process: str, form: LogFormat = "text") -> None:
    """Send the ``peregrine`` loggers to standard error, once.

    Args:
        level: One of ``LEVELS``.
        process: Shown in each line.
        form: How lines look.
    """
    logger = logging.getLogger("peregrine")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(json_formatter(process) if form == "json" else TextFormatter(process))
        logger.addHandler(handler)
        logger.propagate = False


def announce_as(form: LogFormat) -> None:
    """Choose how ``announce`` writes in this process."""
    global _announced_as
    _announced_as = form


def announce(line: str, *, error: bool = False) -> None:
    """Tell the operator, on standard output or standard error, in the form of the log."""
    if _announced_as == "json":
        level = logging.ERROR if error else logging.INFO
        line = json_formatter("supervisor").format(logging.LogRecord("peregrine", level, "", 0, line, None, None))
    else:
        line = f"peregrine: {line}"
    stream = sys.stderr if error else sys.stdout
    stream.write(f"{line}\n")
    stream.flush()


def _request() -> dict[str, Any]:
    """Whose the request is that is being answered, if there is one.

    NOTE: handlers format a record where it was made, so this is the record's own request.
    """
    context = current()
    fields = {"request_id": context.request_id, "tenant": context.tenant}
    return {name: value for name, value in fields.items() if value}


def _event(record: logging.LogRecord) -> dict[str, Any]:
    return {"message": record.msg.name} | record.msg.fields if isinstance(record.msg, Event) else {}


def _pairs(fields: dict[str, Any]) -> list[str]:
    """``name=value``; what would not be one word is quoted, so that no value can pass for a line or a field."""
    texts = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in fields.items()}
    return [f"{name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}" for name, text in texts.items()]
