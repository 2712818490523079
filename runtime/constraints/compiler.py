"""Compiles constraints beside the engine's loop, and remembers the latest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from runtime.constraints.cache import ConstraintCache
from runtime.constraints.compiled_grammar import Grammar, compile_grammar
from runtime.constraints.specification import ConstraintError
from runtime.constraints.vocabulary import Vocabulary
from runtime.request import Constraint

log = logging.getLogger(__name__)

_THREADS = 2
"""So that one large grammar does not keep all others waiting."""


class GrammarCompiler:
    """Used from one thread.

    Args:
        load: Loads the model's vocabulary; raises ``ConstraintError`` where it cannot be used.
    """

    def __init__(self, load: Callable[[], Vocabulary]) -> None:
        self._load = load
        self._vocabulary: Future[Vocabulary] | None = None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="grammar")
        self._compiled: ConstraintCache[Grammar] = ConstraintCache()
        self._running: dict[Constraint, Future[Grammar]] = {}

    def warm_up(self) -> None:
        """Begin to load the vocabulary, unless that has been done.

        NOTE: it stops every other thread for a quarter of a second, so do it while there is nothing else to do.
        """
        if self._vocabulary is None:
            self._vocabulary = self._pool.submit(self._loaded)

    def compile(self, constraint: Constraint) -> Future[Grammar]:
        """The grammar, which is there already if it is remembered.

        The future raises ``ConstraintError`` for a constraint that cannot be compiled.
        """
        self._collect()
        grammar = self._compiled.get(constraint)
        if grammar is not None:
            done: Future[Grammar] = Future()
            done.set_result(grammar)
            return done
        running = self._running.get(constraint)
        if running is None:
            self.warm_up()
            running = self._running[constraint] = self._pool.submit(self._compile, constraint)
        return running

    def _loaded(self) -> Vocabulary:
        try:
            return self._load()
        except ConstraintError as error:
            log.warning("output cannot be constrained: %s", error)
            raise

    def _compile(self, constraint: Constraint) -> Grammar:
        assert self._vocabulary is not None
        return compile_grammar(self._vocabulary.result(), constraint)

    def _collect(self) -> None:
        """Remember what has been compiled since."""
        for constraint, future in [*self._running.items()]:
            if future.done():
                del self._running[constraint]
                if future.exception() is None:
                    self._compiled.put(constraint, future.result())
