"""Lines of JSON for those who collect logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]


class JsonFormatter(logging.Formatter):
    """One object a line.

    Args:
        process: Which of the server's processes it is.
        details: Gives what else is known of a record.
    """

    def __init__(self, process: str, details: Callable[[logging.LogRecord], Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        self._process = process
        self._details = details

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if self._details is not None:
            line |= self._details(record)
        return json.dumps(line, default=str)
