"""Requests that wait for their grammars, out of everybody's way: the scheduler gets them when they can run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from runtime.constraints import ConstraintError
from runtime.constraints.compiled_grammar import Grammar
from runtime.constraints.compiler import GrammarCompiler
from runtime.request import FinishReason
from runtime.scheduler import Group
from runtime.scheduler.sequence import RequestKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    group: Group
    grammar: Future[Grammar]


class GrammarQueue:
    """Groups whose constraints are being compiled.

    Args:
        compiler: Compiles them; ``None`` where the engine takes no constraints.

    Attributes:
        on_ready: Called, on any thread, when a grammar is ready or has failed.
    """

    def __init__(self, compiler: GrammarCompiler | None) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self._compiler = compiler
        self._waiting: dict[RequestKey, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: RequestKey) -> bool:
        return key in self._waiting

    @property
    def groups(self) -> Iterable[Group]:
        """Everybody who waits."""
        return [waiting.group for waiting in self._waiting.values()]

    @property
    def pending(self) -> list[Future[Grammar]]:
        """What they wait for."""
        return [waiting.grammar for waiting in self._waiting.values()]

    def warm_up(self) -> None:
        """Begin to load what compiling takes."""
        if self._compiler is not None:
            self._compiler.warm_up()

    def add(self, group: Group) -> bool:
        """Have a group's constraint compiled; returns whether it has to wait for that."""
        constraint = group.params.constraint
        if constraint is None or self._compiler is None:
            return False
        grammar = self._compiler.compile(constraint)
        if grammar.done() and grammar.exception() is None:
            group.grammar = grammar.result()
            return False
        self._waiting[group.key] = _Waiting(group, grammar)
        grammar.add_done_callback(lambda _: self.on_ready())
        return True

    def abort(self, key: RequestKey, sample: int = -1) -> None:
        """End a request, or one of its samples."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        for sequence in waiting.group.live():
            if sample in (-1, sequence.sample):
                sequence.finish = FinishReason.ABORT
        if not waiting.group.live():
            del self._waiting[key]

    def take(self) -> tuple[list[Group], list[tuple[Group, str]]]:
        """Groups whose grammars are ready, and those whose constraints cannot be had, with why."""
        ready: list[Group] = []
        refused: list[tuple[Group, str]] = []
        for key, waiting in [*self._waiting.items()]:
            group, grammar = waiting.group, waiting.grammar
            if not grammar.done():
                continue
            del self._waiting[key]
            error = grammar.exception()
            if error is None:
                group.grammar = grammar.result()
                ready.append(group)
            elif isinstance(error, ConstraintError):
                refused.append((group, f"the constraint cannot be had: {error}"))
            else:  # a panic of the library's is no Exception: it must not reach the loop
                log.error("a constraint could not be compiled", exc_info=error)
                refused.append((group, "the constraint could not be compiled"))
        return ready, refused
