"""A model without weights whose next token, or score, is a fixed function of every token before it.

It keeps token ids in a paged KV pool of its own and reads them back through the block table, so a paging bug
anywhere changes the answer: the tests' stand-in for a model, and an engine for trying the server without one.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time

import msgspec
import numpy as np
import numpy.typing as npt

from runtime.executors.rows import StepInputs

_MODULUS = 2_147_483_629


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scripted engine pretends to be.

    Attributes:
        vocab_size: Size of the vocabulary.
        eos_token_ids: Ids that end a sample.
        eos_period: Every how many tokens, by the hash, EOS comes up; 0 for never.
        first_token: Ids below this are never generated (but EOS).
        block_size: Tokens in a KV block.
        max_sequence_tokens: Context length.
        step_seconds: Time a step takes at least.
        fail_on_token: A step that runs this token raises; -1 for never, as with all of these.
        exhaust_on_token: A step that runs this token asks for more memory than there is.
        die_on_token: A step that runs this token ends the process.
        hang_on_token: A step that runs this token never ends.
        nan_on_token: Logits, or the score, after this token are NaN.
        scores: It is a reward model.
    """

    vocab_size: int = 512
    eos_token_ids: tuple[int, ...] = (0,)
    eos_period: int = 0
    first_token: int = 1
    block_size: int = 16
    max_sequence_tokens: int = 4096
    step_seconds: float = 0.0
    fail_on_token: int = -1
    exhaust_on_token: int = -1
    die_on_token: int = -1
    hang_on_token: int = -1
    nan_on_token: int = -1
    scores: bool = False


def next_token(script: Script, tokens: list[int]) -> int:
    """The token that follows ``tokens``."""
    state = _digest(tokens)
    if script.eos_period and state % script.eos_period == 0:
        return script.eos_token_ids[0]
    return script.first_token + state // 7 % (script.vocab_size - script.first_token)


def score_of(script: Script, tokens: list[int]) -> float:
    """The score of ``tokens``, in [-8, 8) and exact in float32."""
    return math.nan if tokens[-1] == script.nan_on_token else _digest(tokens) % 2**20 / 2**16 - 8


def _digest(tokens: list[int]) -> int:
    state = 17
    for token in tokens:
        state = (state * 31 + token + 1) % _MODULUS
    return state


class ScriptedModel:
    """A ``HostModel`` that follows a script.

    Args:
        script: The script.
        num_blocks: Blocks in the pool.
    """

    def __init__(self, script: Script, num_blocks: int) -> None:
        self.script = script
        self.scores = script.scores
        self.num_blocks = num_blocks
        self.block_size = script.block_size
        self.pool = np.full((num_blocks, script.block_size), -1, dtype=np.int64)

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """Store the new tokens, then answer each wanted row from what the pool holds."""
        script = self.script
        self._misbehave(inputs.token_ids)
        if script.step_seconds:
            time.sleep(script.step_seconds)
        sequences = np.repeat(np.arange(len(inputs.past_lens)), np.diff(inputs.cu_seqlens))
        positions = np.arange(len(inputs.token_ids)) - (inputs.cu_seqlens[:-1] - inputs.past_lens)[sequences]
        for token, sequence, position in zip(inputs.token_ids, sequences, positions, strict=True):
            block = inputs.block_table[sequence, position // self.block_size]
            self.pool[block, position % self.block_size] = token
        contexts = [self._context(inputs.block_table[sequences[row]], positions[row]) for row in inputs.logits_rows]
        if script.scores:
            return np.array([score_of(script, tokens) for tokens in contexts], dtype=np.float32)
        logits = np.zeros((len(contexts), script.vocab_size), dtype=np.float32)
        for row, tokens in zip(logits, contexts, strict=True):
            row[next_token(script, tokens)] = 8.0
            if tokens[-1] == script.nan_on_token:
                row[:] = np.nan
        return logits

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""
        for source, target in copies:
            self.pool[target] = self.pool[source]

    def close(self) -> None:
        """See ``HostModel``."""

    def _misbehave(self, token_ids: npt.NDArray[np.int64]) -> None:
        script = self.script
        if script.fail_on_token in token_ids:
            message = f"scripted failure on token {script.fail_on_token}"
            raise RuntimeError(message)
        if script.exhaust_on_token in token_ids:
            np.empty(2**60, dtype=np.uint8)
        if script.die_on_token in token_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if script.hang_on_token in token_ids:
            threading.Event().wait()

    def _context(self, table: npt.NDArray[np.int32], position: np.int64) -> list[int]:
        """A sequence's tokens up to and with ``position``, as its blocks have them."""
        length = int(position) + 1
        tokens: list[int] = self.pool[table[: -(-length // self.block_size)]].reshape(-1)[:length].tolist()
        return tokens
