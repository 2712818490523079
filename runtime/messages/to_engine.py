"""Messages an HTTP worker sends to the engine."""

from __future__ import annotations

import msgspec

from runtime.request import SamplingParams
from runtime.tenants import NOBODY


class _Message(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    pass


class Hello(_Message, tag=1):
    """First message on a connection; the engine answers ``Welcome``."""

    pid: int


class AddRequest(_Message, tag=2):
    """Queue one request.

    Attributes:
        request_id: Chosen by the worker, unique on its connection.
        prompt: Prompt token ids, at least one.
        sampling: Shared by all samples of the request.
        samples: Independent samples of the prompt (``best_of``).
        salt: Separates tenants in the prefix cache.
        tenant: Who pays: limits and fair shares are counted by it.
        priority: Larger ones are served first.
        seconds_left: Until nobody wants the answer any more; 0 for no such time.
        admitted: An engine that has died since had taken it: it is not turned away for lack of room.
    """

    request_id: int
    prompt: list[int]
    sampling: SamplingParams
    samples: int = 1
    salt: str = ""
    tenant: str = NOBODY
    priority: int = 0
    seconds_left: float = 0.0
    admitted: bool = False


class Abort(_Message, tag=3):
    """The client is gone, or the worker has seen a stop string: free the sample.

    Attributes:
        request_id: As in ``AddRequest``.
        sample: One sample's index, or -1 for all of them.
    """

    request_id: int
    sample: int = -1


class StatsQuery(_Message, tag=4):
    """Ask for ``StatsReply``."""

    query_id: int


class PrefixQuery(_Message, tag=5):
    """Ask for ``PrefixReply``.

    Attributes:
        limit: Digests at most.
    """

    limit: int


ToEngine = Hello | AddRequest | Abort | StatsQuery | PrefixQuery
