"""The engine as a process: ready line, messages over ZMQ, signals, and an end without a parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from runtime.executors.scripted import Script, next_token, score_of
from runtime.messages import (
    Abort,
    AddRequest,
    Hello,
    Rejected,
    RejectReason,
    StatsQuery,
    StatsReply,
    StepOutputs,
    ToEngine,
    TokenOutput,
    ToWorker,
    Welcome,
)
from runtime.request import FinishReason, SamplingParams

SCRIPT = Script(vocab_size=300, step_seconds=0.002, max_sequence_tokens=4000)
LONG = SamplingParams(max_new_tokens=3000, ignore_eos=True)


class Engine:
    """A running engine process and one worker connection to it."""

    def __init__(self, folder: Path, script_: Script = SCRIPT, **wishes: object) -> None:
        script = folder / "script.json"
        script.write_bytes(msgspec.json.encode(script_))
        self.socket_path = folder / "engine.sock"
        settings = {"bundle": str(script), "socket": str(self.socket_path), "executor": "scripted", **wishes}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runtime.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(settings).encode() + b"\n")
        self.process.stdin.flush()
        self.ready = json.loads(self.process.stdout.readline())
        self.context = zmq.Context()
        self.socket = self.connect()

    def connect(self) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc://{self.socket_path}")
        return socket

    def send(self, message: ToEngine) -> None:
        self.socket.send(msgspec.msgpack.encode(message))

    def receive(self, seconds: float = 10) -> ToWorker:
        assert self.socket.poll(int(seconds * 1000)), "the engine did not answer"
        return msgspec.msgpack.decode(self.socket.recv(), type=ToWorker)

    def tokens(self, request_id: int) -> Iterator[TokenOutput]:
        while True:
            message = self.receive()
            assert isinstance(message, StepOutputs)
            for output in message.outputs:
                if output.request_id == request_id:
                    yield output
                    if output.finish is not FinishReason.NONE:
                        return

    def stats(self) -> StatsReply:
        self.send(StatsQuery(1))
        while not isinstance(message := self.receive(), StatsReply):
            pass
        return message

    def close(self) -> None:
        """Leaves by the front door, which also writes down what was covered."""
        self.context.destroy(linger=0)
        self.process.terminate()
        try:
            self.process.communicate(timeout=10)
        finally:
            self.process.kill()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    started = Engine(tmp_path, drain_seconds=0.2)
    yield started
    started.close()


def test_it_says_what_it_can_take_and_welcomes_workers(engine: Engine) -> None:
    assert engine.ready["ready"]
    assert engine.ready["limits"]["max_request_tokens"] == 4000
    engine.send(Hello(1))
    welcome = engine.receive()
    assert isinstance(welcome, Welcome)
    assert welcome.limits.vocab_size == 300
    assert len(welcome.boot_id) == 32


def test_it_answers_with_the_tokens_of_the_prompt(engine: Engine) -> None:
    engine.send(AddRequest(5, [9, 8, 7], SamplingParams(max_new_tokens=3, ignore_eos=True)))
    outputs = list(engine.tokens(5))
    assert outputs[0].token_id == next_token(SCRIPT, [9, 8, 7])
    assert [output.finish for output in outputs] == [FinishReason.NONE, FinishReason.NONE, FinishReason.LENGTH]


def test_a_reward_models_engine_answers_with_scores(tmp_path: Path) -> None:
    script = Script(vocab_size=300, nan_on_token=42, scores=True)
    engine = Engine(tmp_path, script, max_step_tokens=8)
    try:
        assert engine.ready["limits"]["scores"]
        assert "reward model: scores instead of text" in engine.ready["summary"]
        prompts = {1: [9] * 40, 2: [9, 8, 7], 3: [5, 42], 4: [9] * 50}
        for number, prompt in prompts.items():
            engine.send(AddRequest(number, prompt, SamplingParams(max_new_tokens=1)))
        engine.send(AddRequest(5, [1], LONG, samples=2))
        answers: dict[int, TokenOutput] = {}
        refused = []
        while len(answers) < len(prompts):
            message = engine.receive()
            refused += [message] if isinstance(message, Rejected) else []
            answers |= {o.request_id: o for o in message.outputs} if isinstance(message, StepOutputs) else {}
        assert [rejected.request_id for rejected in refused] == [5]
        assert "not finite" in answers.pop(3).error
        for number, output in answers.items():
            assert (output.token_id, output.finish) == (-1, FinishReason.STOP)
            assert output.score == score_of(script, prompts[number])
            assert output.queue_seconds > 0
        assert engine.stats().stats.generated_tokens_total == 0
    finally:
        engine.close()


def test_requests_overlap_and_an_abort_frees_its_own(engine: Engine) -> None:
    engine.send(AddRequest(1, [1], LONG))
    engine.send(AddRequest(2, [2], SamplingParams(max_new_tokens=5, ignore_eos=True)))
    assert len(list(engine.tokens(2))) == 5
    assert engine.stats().stats.running == 1
    engine.send(Abort(1))
    assert engine.stats().stats.used_tokens == 0


def test_a_refused_request_gets_its_reason(engine: Engine) -> None:
    engine.send(AddRequest(1, [300], LONG))
    rejected = engine.receive()
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.INVALID


def test_garbage_on_the_socket_harms_nobody(engine: Engine) -> None:
    engine.socket.send(b"\xff\xff")
    engine.socket.send_multipart([b"two", b"frames"])
    engine.socket.send(msgspec.msgpack.encode([99, 1, 2]))
    assert engine.stats().stats.running == 0


def test_a_worker_that_dies_has_its_requests_freed(engine: Engine) -> None:
    dying = engine.connect()
    dying.send(msgspec.msgpack.encode(AddRequest(1, [1], LONG)))
    assert dying.poll(10_000)
    dying.close()
    for _ in range(500):
        if engine.stats().stats.running == 0:
            return
    pytest.fail("the dead worker's request still runs")


def test_requests_that_a_dead_worker_left_in_the_queue_are_freed(tmp_path: Path) -> None:
    engine = Engine(tmp_path, max_running=1, max_queued=3)
    try:
        engine.send(AddRequest(1, [1], LONG))
        assert isinstance(engine.receive(), StepOutputs)
        dying = engine.connect()
        for number in range(4):  # one more than the queue takes, so that there is an answer to wait for
            dying.send(msgspec.msgpack.encode(AddRequest(number, [1], LONG)))
        answer = None
        while not isinstance(answer, Rejected):
            assert dying.poll(10_000)
            answer = msgspec.msgpack.decode(dying.recv(), type=ToWorker)
        dying.close()
        while (stats := engine.stats().stats).waiting:
            assert stats.running == 1, "only a token for the dead worker would have shown that it is dead"
        engine.send(AddRequest(2, [1], LONG))
        assert engine.stats().stats.waiting == 1
    finally:
        engine.close()


def test_draining_refuses_new_requests_and_ends_running_ones_at_the_deadline(engine: Engine) -> None:
    engine.send(AddRequest(1, [1], LONG))
    assert isinstance(engine.receive(), StepOutputs)
    engine.process.send_signal(signal.SIGUSR1)
    last = list(engine.tokens(1))[-1]
    assert (last.finish, last.error) == (FinishReason.ERROR, "the server is shutting down")
    engine.send(AddRequest(2, [1], LONG))
    rejected = engine.receive()
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.DRAINING


def test_being_told_again_to_drain_does_not_put_off_the_deadline(engine: Engine) -> None:
    engine.send(AddRequest(1, [1], LONG))
    outputs = []
    for output in engine.tokens(1):
        outputs.append(output)
        engine.process.send_signal(signal.SIGUSR1)
    assert (outputs[-1].finish, outputs[-1].error) == (FinishReason.ERROR, "the server is shutting down")


def test_step_after_step_failing_ends_it_with_an_error(tmp_path: Path) -> None:
    engine = Engine(tmp_path, Script(fail_on_token=7))
    try:
        for number in range(2):
            engine.send(AddRequest(number, [7, number], LONG))
            assert next(engine.tokens(number)).finish is FinishReason.ERROR
        engine.send(AddRequest(2, [7, 2], LONG))
        assert engine.process.wait(10) == 1
    finally:
        engine.close()


def test_who_kills_two_engines_at_the_same_place_is_not_taken_by_the_third(tmp_path: Path) -> None:
    script = Script(vocab_size=300, die_on_token=7, step_seconds=0.002, max_sequence_tokens=4000)
    for life in range(3):
        engine = Engine(tmp_path, script)
        try:
            engine.send(AddRequest(1, [9, 9], LONG))
            for _ in range(3 + 40 * life):  # further on each time
                assert isinstance(engine.receive(), StepOutputs)
            engine.send(AddRequest(2, [5, 7], LONG))
            if life < 2:
                assert engine.process.wait(10) == -signal.SIGKILL
                continue
            message = engine.receive()
            while not isinstance(message, Rejected):
                message = engine.receive()
            assert (message.request_id, message.reason) == (2, RejectReason.QUARANTINED)
            assert engine.stats().stats.running == 1
        finally:
            engine.close()


def test_sigterm_ends_it_and_answers_what_is_open(engine: Engine) -> None:
    engine.send(AddRequest(1, [1], LONG))
    assert isinstance(engine.receive(), StepOutputs)
    engine.process.terminate()
    assert list(engine.tokens(1))[-1].finish is FinishReason.ERROR
    assert engine.process.wait(5) == 0


def test_it_ends_with_its_parent(engine: Engine) -> None:
    assert engine.process.stdin is not None
    engine.process.stdin.close()
    assert engine.process.wait(5) == 0
    engine.process.stdin = None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (b"{}\n", "configuration cannot be read"),
        (b"", "configuration cannot be read"),
        (b'{"bundle": "/nowhere", "socket": "/x"}\n', "/nowhere"),
        *(
            (f'{{"bundle": "b", "socket": "s", "{name}": {value}}}\n'.encode(), f">= 1 - at `$.{name}`")
            for name in ("max_running", "threads", "max_step_tokens")
            for value in (0, -1)
        ),
    ],
)
def test_it_says_why_it_cannot_start(settings: bytes, words: str) -> None:
    ended = subprocess.run([sys.executable, "-m", "runtime.engine"], input=settings, capture_output=True, timeout=60)
    answer = json.loads(ended.stdout)
    assert (ended.returncode, answer["ready"]) == (2, False)
    assert words in answer["error"]
