"""Messages between the processes: decoded or refused, and no more of a hostile one reaches a step than may."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import cache

import msgspec
from fuzz.choices import Choices

from runtime.engine.checks import request_problem
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel
from runtime.limits import EngineLimits
from runtime.messages import Abort, AddRequest, Rejected, ToEngine, ToWorker
from runtime.request import Constraint, ConstraintKind, OpeningState, SamplingParams
from runtime.scheduler import FuturePeak

LIMITS = EngineLimits(
    max_request_tokens=24,
    max_total_tokens=32 * 4,
    max_running=4,
    max_queued=3,
    max_step_tokens=16,
    block_size=4,
    vocab_size=50,
    eos_token_ids=(0,),
)
TO_ENGINE, TO_WORKER = msgspec.msgpack.Decoder(ToEngine), msgspec.msgpack.Decoder(ToWorker)
NUMBERS = (0, 1, -1, 2, 3, 7, 20, 21, 49, 50, 2**31, -(2**31), 2**63 - 1, 2**64 - 1)
FLOATS = (0.0, 1.0, 0.5, -1.0, 1e-30, 1e30, 1e308, float("inf"), float("-inf"), float("nan"), -0.0)
FIELDS = tuple(SamplingParams.__dataclass_fields__)


@cache
def engine() -> EngineCore:
    """A scripted one for all messages."""
    executor = HostExecutor(
        ScriptedModel(Script(vocab_size=50, block_size=4, max_sequence_tokens=24), 32),
        eos_token_ids=frozenset({0}),
        max_rows=4,
        max_step_tokens=16,
        max_logit_rows=7,
        max_sequence_tokens=24,
    )
    return EngineCore(executor, LIMITS, FuturePeak())


def one_input(data: bytes) -> None:
    """Decode on both sides; whatever the engine can read, it judges, and runs for some inputs."""
    choices = Choices(data)
    kind = choices.byte()
    frame = choices.rest() if kind & 1 else msgspec.msgpack.encode(request(choices))
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        TO_WORKER.decode(frame)
    try:
        message = TO_ENGINE.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if kind & 6:
        assert not isinstance(message, AddRequest) or isinstance(request_problem(message, LIMITS), str)
    else:
        run(message)


def run(message: ToEngine) -> None:
    """Step until there is nothing left to do."""
    core = engine()
    match message:
        case AddRequest():
            rejected = core.add(b"client", message)
            assert rejected is None or isinstance(rejected, Rejected)
        case Abort(request_id, sample):
            core.abort(b"client", request_id, sample)
    steps = 0
    while core.has_work:
        for outputs in core.step().values():
            assert all(math.isfinite(output.logprob) for output in outputs), message
        steps += 1
        assert steps < 1000, message
    assert core.check() == []


def request(choices: Choices) -> list[object]:
    """An ``AddRequest`` as it goes over the wire, mostly with the right types."""
    prompt = [choices.pick((1, 2, 3, 49, choices.pick(NUMBERS))) for _ in range(choices.byte() % 8)]
    sampling = {choices.pick(FIELDS): value(choices) for _ in range(choices.byte() % 6)}
    message: list[object] = [2, choices.byte(), prompt, {"max_new_tokens": 1 + choices.byte() % 3} | sampling]
    rest = [choices.pick((1, 2, 0, -1, 10**6)), choices.text(), choices.text(), choices.pick(NUMBERS)]
    return [*message, *[*rest, choices.pick(FLOATS)][: choices.byte() % 6]]


def value(choices: Choices) -> object:
    """Anything that a field of ``SamplingParams`` may have."""
    match choices.byte() % 8:
        case 0 | 1:
            return choices.pick(NUMBERS)
        case 2 | 3:
            return choices.pick(FLOATS)
        case 4:
            return bool(choices.byte() & 1)
        case 5:
            return [[choices.pick(NUMBERS) for _ in range(choices.byte() % 4)] for _ in range(choices.byte() % 3)]
        case 6:
            pairs = [[choices.pick(NUMBERS[:10]), choices.pick(FLOATS)] for _ in range(choices.byte() % 3)]
            return choices.pick((pairs, [choices.pick(NUMBERS) for _ in range(3)], "text"))
        case _:
            return choices.pick((opening(choices), constraint(choices)))


def opening(choices: Choices) -> list[object]:
    """States whose ids and successors need not be there."""
    states = []
    for _ in range(choices.byte() % 3):
        following = [(choices.pick(NUMBERS), choices.byte() % 4) for _ in range(choices.byte() % 3)]
        states.append(OpeningState(choices.take(choices.byte() % 9), tuple(following)))
    return list(states)


def constraint(choices: Choices) -> object:
    """One that the scripted engine does not take."""
    return Constraint(choices.pick([*ConstraintKind]), choices.text())


SEEDS = [
    b"\1" + msgspec.msgpack.encode(AddRequest(1, [3, 4, 5], SamplingParams(max_new_tokens=4))),
    b"\1" + msgspec.msgpack.encode(Abort(1)),
    b"\1" + msgspec.msgpack.encode([4, 1]),
    *(bytes([0, 3, 1, 2, 3, 1, field]) for field in range(len(FIELDS))),
]
