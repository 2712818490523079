"""Wire types between HTTP workers and the engine process: msgspec structs, one module per receiver.

Fields are appended last, never moved: a worker and an engine of neighbouring versions still understand each
other. Nothing here is ever pickled.
"""

from runtime.messages.to_engine import Abort, AddRequest, Hello, PrefixQuery, StatsQuery, ToEngine
from runtime.messages.to_worker import (
    TIME_IS_UP,
    PrefixReply,
    Rejected,
    RejectReason,
    StatsReply,
    StepOutputs,
    TokenOutput,
    ToWorker,
    Welcome,
)

__all__ = [
    "TIME_IS_UP",
    "Abort",
    "AddRequest",
    "Hello",
    "PrefixQuery",
    "PrefixReply",
    "RejectReason",
    "Rejected",
    "StatsQuery",
    "StatsReply",
    "StepOutputs",
    "ToEngine",
    "ToWorker",
    "TokenOutput",
    "Welcome",
]
