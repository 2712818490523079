"""The workloads, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """``requests`` at once, each ``prompt`` random tokens in and ``output`` tokens out."""

    name: str
    requests: int
    prompt: int
    output: int

    def describe(self) -> str:
        """In words."""
        return f"{self.requests} x ({self.prompt} + {self.output})"


WORKLOADS = (
    Workload("A", 1, 4, 128),
    Workload("B8", 8, 128, 128),
    Workload("B32", 32, 128, 128),
    Workload("C", 1, 1024, 1),
    Workload("D", 4, 2048, 64),
)
