"""Where drafts come from in tests: sources that know the answer, and tell it or not."""

from __future__ import annotations

import random

from harness import SCRIPT

from runtime.executors.scripted import Script, next_token
from runtime.scheduler import Sequence

Transcripts = dict[tuple[int, int], list[int]]
"""Output by number of the request and sample."""


class Soothsayer:
    """Knows the script; a guess is right with probability ``skill``, given those before it."""

    def __init__(self, skill: float, seed: int = 0, script: Script = SCRIPT) -> None:
        self.skill = skill
        self.script = script
        self.rng = random.Random(seed)

    def guess(self, sequence: Sequence, length: int) -> list[int]:
        tokens = list(sequence.tokens)
        for _ in range(length):
            token = next_token(self.script, tokens)
            right = self.rng.random() < self.skill
            tokens.append(token if right else (token + 1) % self.script.vocab_size)
        return tokens[len(sequence.tokens) :]


class Reader:
    """Reads the output of an earlier run, each token misread with probability ``1 - skill``."""

    def __init__(self, transcripts: Transcripts, skill: float, seed: int = 0) -> None:
        self.transcripts = transcripts
        self.skill = skill
        self.rng = random.Random(seed)

    def guess(self, sequence: Sequence, length: int) -> list[int]:
        known = self.transcripts.get((sequence.group.key[1], sequence.sample), [])
        coming = known[sequence.generated :][:length]
        return [token if self.rng.random() < self.skill else (token + 1) % 40 for token in coming]
