"""Typed access to a configuration that somebody else wrote."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError

MAX_DIMENSION = 1 << 24
MAX_LAYERS = 1024


class Fields:
    """Reads keys of ``values``, raising ``CheckpointError`` naming the key where one is missing or unusable.

    Args:
        values: Parsed ``config.json`` or GGUF metadata.
        prefix: Put before each key, e.g. ``"llama."``.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def raw(self, key: str) -> Any:
        """The value of ``key`` as it is, or ``None``."""
        return self._values.get(self._prefix + key)

    def dimension(self, key: str, default: int | None = None, *, most: int = MAX_DIMENSION) -> int:
        """A positive integer up to ``most``; ``default`` where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            if default is None:
                raise CheckpointError(f"{self._prefix}{key} is missing")
            return default
        if type(value) is not int or not 1 <= value <= most:
            raise self._unusable(key, value, f"an integer from 1 to {most}")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A positive finite number; ``default`` where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            if default is None:
                raise CheckpointError(f"{self._prefix}{key} is missing")
            return default
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            raise self._unusable(key, value, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean; ``default`` where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self._unusable(key, value, "true or false")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A string; ``default`` where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            return default
        if type(value) is not str:
            raise self._unusable(key, value, "a string")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """An object; empty where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            return {}
        if type(value) is not dict:
            raise self._unusable(key, value, "an object")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers; empty where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            return ()
        if type(value) is not list or not all(type(item) in (int, float) for item in value):
            raise self._unusable(key, value, "a list of numbers")
        try:
            return tuple(float(item) for item in value)
        except OverflowError:
            raise self._unusable(key, value, "a list of numbers") from None

    def names(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where ``key`` is absent or null."""
        value = self.raw(key)
        if value is None:
            return ()
        if type(value) is not list or not all(type(item) is str for item in value):
            raise self._unusable(key, value, "a list of strings")
        return tuple(value)

    def _unusable(self, key: str, value: Any, wanted: str) -> CheckpointError:
        return CheckpointError(f"{self._prefix}{key} is {reprlib.repr(value)}; it has to be {wanted}")
