"""The engine process: the loop around scheduler and executor, and its message socket."""

from runtime.engine.core import EngineCore
from runtime.engine.isolation import EngineFailedError

__all__ = ["EngineCore", "EngineFailedError"]
