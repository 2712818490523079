"""Requests that made the engine fail are not taken again for a while."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from runtime.request import SamplingParams

FINGERPRINT_BYTES = 12
QUARANTINE_SECONDS = 600.0
QUARANTINE_CAPACITY = 1024


def fingerprint(prompt: list[int], params: SamplingParams, samples: int) -> bytes:
    """Names all requests that ask for the same; the seed, which is drawn anew for each, does not count."""
    same = dataclasses.replace(params, seed=0)
    digest = hashlib.blake2b(array("q", prompt), digest_size=FINGERPRINT_BYTES)
    digest.update(msgspec.msgpack.encode((same, samples)))
    return digest.digest()


class Quarantine:
    """A bounded set of fingerprints, each of which leaves after a while; the oldest makes room.

    Args:
        seconds: How long each stays after it was last added.
        capacity: How many there may be.
        clock: Seconds that never jump.
    """

    def __init__(
        self,
        seconds: float = QUARANTINE_SECONDS,
        capacity: int = QUARANTINE_CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, found: bytes) -> None:
        """Refuse ``found`` from now on."""
        self._until[found] = self._clock() + self._seconds
        self._until.move_to_end(found)
        if len(self._until) > self._capacity:
            self._until.popitem(last=False)

    def __contains__(self, found: bytes) -> bool:
        until = self._until.get(found)
        if until is not None and until <= self._clock():
            del self._until[found]
            return False
        return until is not None
