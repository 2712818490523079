"""What each constrained row may draw next, computed while the model runs: it depends on earlier tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llguidance import LLExecutor

from runtime.constraints.compiled_grammar import Grammar, Matcher
from runtime.constraints.translate import message_of

Words = npt.NDArray[np.uint32]


@dataclass(slots=True)
class _Row:
    matcher: Matcher
    keep_going: bool
    unread: list[int] = field(default_factory=list)


class _Task(NamedTuple):
    row: int
    state: _Row
    unread: list[int]


class MaskRows:
    """The matchers and masks of an executor's rows.

    A step's masks are begun before the model runs and finished after it, on a thread in between, which reads the new
    tokens too.

    Args:
        max_rows: Rows there are.
        eos_token_ids: Ids that end an output.
    """

    def __init__(self, max_rows: int, eos_token_ids: Sequence[int]) -> None:
        self._max_rows = max_rows
        self._eos = np.array(sorted(eos_token_ids), dtype=np.int64)
        self._rows: dict[int, _Row] = {}
        self._masks: Words = np.zeros((0, 0), dtype=np.uint32)
        self._vocab_size = 0
        self._job: Future[dict[int, str]] | None = None

    def __bool__(self) -> bool:
        return bool(self._rows)

    def start(self, row: int, grammar: Grammar, output: list[int], *, keep_going: bool = False) -> Words:
        """A constrained sequence enters a row.

        Args:
            row: Below ``max_rows``.
            grammar: What its output has to be.
            output: Its tokens so far.
            keep_going: Allow EOS only where nothing else is allowed.

        Returns:
            uint32 ``[ceil(V / 32)]``, where the row's mask will be.
        """
        if not self._vocab_size:
            self._allocate(grammar.vocab_size)
        self._rows[row] = _Row(grammar.matcher(), keep_going, list(output))
        mask: Words = self._masks[row]
        return mask

    def end(self, row: int) -> None:
        """Forget a row; one without a constraint is nothing to forget."""
        self._rows.pop(row, None)

    def accept(self, rows: list[int], tokens: list[int]) -> None:
        """What rows have drawn, constrained or not."""
        for row, token in zip(rows, tokens, strict=True):
            if row in self._rows:
                self._rows[row].unread.append(token)

    def begin(self, rows: list[int]) -> None:
        """Begin the masks of those of ``rows`` that are constrained."""
        if self._job is not None:
            wait([self._job])  # of a step that failed
        tasks = []
        for row in rows:
            if row in self._rows:
                state = self._rows[row]
                tasks.append(_Task(row, state, state.unread))
                state.unread = []
        self._job = self._pool.submit(self._compute, tasks) if tasks else None

    def finish(self, vocab_size: int) -> dict[int, str]:
        """Wait for the masks.

        Args:
            vocab_size: Logits that they are for.

        Returns:
            Why rows have none, where a grammar became too complex.

        Raises:
            ValueError: The grammars' vocabulary is of another size.
            RuntimeError: The library failed.
        """
        if self._job is None:
            return {}
        job, self._job = self._job, None
        failure = job.exception()
        if failure is not None:  # a panic of the library's is no Exception
            message = f"masks could not be computed: {failure}"
            raise RuntimeError(message) from failure
        if vocab_size != self._vocab_size:
            message = f"masks of {self._vocab_size} tokens do not fit {vocab_size} logits"
            raise ValueError(message)
        return job.result()

    def _allocate(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._masks = np.zeros((self._max_rows, -(-vocab_size // 32)), dtype=np.uint32)
        self._no_eos = np.full(self._masks.shape[1], 2**32 - 1, dtype=np.uint32)
        for token in self._eos.tolist():
            self._no_eos[token // 32] &= np.uint32(~(1 << token % 32) & 2**32 - 1)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")
        self._executor = LLExecutor()

    def _compute(self, tasks: list[_Task]) -> dict[int, str]:
        news = [(task.state.matcher, task.unread[0]) for task in tasks if len(task.unread) == 1]
        if news:
            self._executor.consume_token_par(news)
        for task in tasks:
            if len(task.unread) > 1:  # it was preempted
                task.state.matcher.consume_tokens(task.unread)
        matchers = [(task.state.matcher, task.row) for task in tasks]
        rows, words = self._masks.shape
        self._executor.unsafe_compute_mask_ptr(matchers, self._masks.ctypes.data, 4 * words, rows)
        for task in tasks:
            if task.state.keep_going:
                others = self._masks[task.row] & self._no_eos
                if others.any():
                    self._masks[task.row] = others
        return {row: message_of(matcher.get_error()) for matcher, row in matchers if matcher.is_error()}
