"""An engine process's double on a real socket: scripted tokens, a log of what it was told, failures on demand."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq
from toy_tokenizer import EOS_ID, VOCAB_SIZE, byte_id

from runtime.limits import EngineLimits
from runtime.messages import (
    TIME_IS_UP,
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
from runtime.request import FinishReason
from runtime.stats import EngineStats

LIMITS = EngineLimits(
    max_request_tokens=256,
    max_total_tokens=4096,
    max_running=16,
    max_queued=64,
    max_step_tokens=256,
    block_size=16,
    vocab_size=VOCAB_SIZE,
    eos_token_ids=(EOS_ID,),
    constraints=True,
)
REWARD_LIMITS = msgspec.structs.replace(LIMITS, scores=True)
Script = Callable[[AddRequest, int, int], TokenOutput]


def say(text: str | bytes) -> Script:
    """A script that generates ``text`` byte by byte, over and over, until the token limit."""
    data = text.encode() if isinstance(text, str) else text

    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        last = count + 1 >= add.sampling.max_new_tokens
        finish = FinishReason.LENGTH if last else FinishReason.NONE
        token = byte_id(data[count % len(data)])
        prompt = add.sampling.prompt_logprobs and count == 0
        logprobs = [-1.0] * (len(add.prompt) - 1) if prompt else None
        others = [(byte_id(ord("?")), -2.0), (byte_id(ord("!")), -3.0)]
        top = add.sampling.top_logprobs
        return TokenOutput(
            add.request_id,
            sample,
            token,
            -0.5,
            finish,
            prompt_logprobs=logprobs,
            top_logprobs=[(token, -0.5), *others][:top] if top else None,
            prompt_top_logprobs=[others[:top] for _ in logprobs] if top and logprobs else None,
        )

    return script


def score(value: Callable[[list[int]], float | None]) -> Script:
    """A script of a reward engine: ``value`` of the prompt, or an error where that is ``None``."""

    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        number = value(add.prompt)
        if number is None:
            return TokenOutput(add.request_id, sample, -1, 0.0, FinishReason.ERROR, error="no score")
        return TokenOutput(add.request_id, sample, -1, 0.0, FinishReason.STOP, score=number)

    return script


@dataclass
class _Running:
    client: bytes
    add: AddRequest
    counts: dict[int, int]


@dataclass
class FakeEngine:
    """Runs in a thread; all tokens of a step come as one message per worker.

    Attributes:
        script: Makes output ``count`` (from 0) of a sample.
        reject: When set, makes the refusal of every request.
        expire_after: Tokens after which a request's time is up.
        held: Says which requests get no outputs for now.
        tick_milliseconds: Time between steps.
    """

    path: Path
    script: Script = field(default_factory=lambda: say("abcdefghijklmnopqrstuvwxyz"))
    limits: EngineLimits = LIMITS
    tick_milliseconds: int = 2
    reject: Callable[[AddRequest], Rejected] | None = None
    expire_after: int = -1
    held: Callable[[AddRequest], bool] = lambda _: False
    stats: EngineStats = field(default_factory=lambda: EngineStats(capacity_tokens=1000))
    added: list[AddRequest] = field(default_factory=list)
    aborted: list[Abort] = field(default_factory=list)

    def start(self) -> FakeEngine:
        """Bind and serve."""
        self.boot_id = uuid.uuid4().hex
        self.paused = threading.Event()
        self.mute = threading.Event()
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-engine")
        self._thread.start()
        assert self._bound.wait(10)
        return self

    def stop(self) -> None:
        """Die: the socket closes, nothing more is said."""
        self._stopped.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def wait(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until something it was told makes ``condition`` true."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), "the engine was not told what the test expects"

    def _run(self) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        socket.bind(f"ipc://{self.path}")
        self._bound.set()
        self._running: dict[tuple[bytes, int], _Running] = {}
        decoder = msgspec.msgpack.Decoder(ToEngine)
        try:
            while not self._stopped.is_set():
                if socket.poll(self.tick_milliseconds):
                    client, frame = socket.recv_multipart()
                    if not self.mute.is_set():
                        self._handle(socket, client, decoder.decode(frame))
                elif not self.paused.is_set():
                    self._step(socket)
        finally:
            context.destroy(linger=0)

    def _handle(self, socket: zmq.Socket[bytes], client: bytes, message: ToEngine) -> None:
        with self._changed:
            match message:
                case Hello():
                    self._send(socket, client, Welcome(self.boot_id, self.limits))
                case StatsQuery(query_id=query_id):
                    self._send(socket, client, StatsReply(query_id, self.stats))
                case AddRequest():
                    self.added.append(message)
                    if self.reject is not None:
                        self._send(socket, client, self.reject(message))
                    else:
                        running = _Running(client, message, dict.fromkeys(range(message.samples), 0))
                        self._running[client, message.request_id] = running
                case Abort(request_id=request_id, sample=sample):
                    self.aborted.append(message)
                    self._free(client, request_id, sample)
            self._changed.notify_all()

    def _free(self, client: bytes, request_id: int, sample: int) -> None:
        running = self._running.get((client, request_id))
        if running is not None:
            running.counts = {} if sample < 0 else {s: c for s, c in running.counts.items() if s != sample}

    def _step(self, socket: zmq.Socket[bytes]) -> None:
        outputs: dict[bytes, list[TokenOutput]] = {}
        for key, running in [*self._running.items()]:
            if self.held(running.add):
                continue
            if self.expire_after in running.counts.values():
                del self._running[key]
                self._send(socket, running.client, Rejected(key[1], RejectReason.EXPIRED, TIME_IS_UP))
                continue
            for sample, count in [*running.counts.items()]:
                output = self.script(running.add, sample, count)
                outputs.setdefault(running.client, []).append(output)
                running.counts[sample] += 1
                if output.finish is not FinishReason.NONE:
                    del running.counts[sample]
            if not running.counts:
                del self._running[key]
        for client, batch in outputs.items():
            self._send(socket, client, StepOutputs(batch))

    def _send(self, socket: zmq.Socket[bytes], client: bytes, message: ToWorker) -> None:
        socket.send_multipart([client, msgspec.msgpack.encode(message)])
