"""Executors: what runs a step on a device."""

from runtime.executors.base import Capabilities, Executor, StepHandle
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.rows import RowTable, StepInputs

__all__ = ["Capabilities", "Executor", "HostExecutor", "HostModel", "RowTable", "StepHandle", "StepInputs"]
