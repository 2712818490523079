"""Runs simulations side by side, one a core."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """What ``function`` makes of each task, in their order; on one core in this process."""
    cores = min(len(os.sched_getaffinity(0)), len(tasks))
    if cores < 2:
        return [function(task) for task in tasks]
    with ProcessPoolExecutor(cores) as pool:
        return list(pool.map(function, tasks))
