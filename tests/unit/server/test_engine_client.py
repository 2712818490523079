"""Requests, their engine and its successors: what each reader gets, whatever dies when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_link import LIMITS, ScriptedLink, token_of

from runtime.messages import Abort, AddRequest, Rejected, RejectReason
from runtime.request import FinishReason, SamplingParams
from server import replay_queue
from server.engine_client import EngineClient
from server.errors import ClientGoneError, InvalidRequestError, ServerError, UnavailableError
from server.replayed_stream import MAX_LOSSES
from server.request_context import RequestContext, _current
from server.request_stream import RequestStream

TOKENS = 5
SAMPLING = SamplingParams(max_new_tokens=TOKENS)


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engine_client.EngineLink", ScriptedLink)


Test = Callable[[EngineClient, ScriptedLink], Awaitable[None]]


def run(test: Test, replay_seconds: float = 30.0, stopping: Callable[[], bool] = lambda: False) -> None:
    async def body() -> None:
        client = EngineClient("", replay_seconds, stopping)
        await client.start()
        link = client._link
        assert isinstance(link, ScriptedLink)
        await test(client, link)
        await client.close()

    asyncio.run(body())


@dataclass
class Reader:
    """Who reads a stream, and how it ended."""

    stream: RequestStream
    prompt: int
    samples: int
    tokens: dict[int, list[int]] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    error: Exception | None = None
    over: bool = False

    async def read(self) -> Reader:
        """Until the end."""
        try:
            while outputs := await self.stream.take():
                for output in outputs:
                    assert output.sample not in self.ended, "an output after the end"
                    self.tokens.setdefault(output.sample, []).append(output.token_id)
                    if output.finish is not FinishReason.NONE:
                        self.ended.append(output.sample)
        except (ServerError, ClientGoneError) as error:
            self.error = error
        assert not self.over
        self.over = True
        return self

    def check(self) -> None:
        """What it has is a beginning of what the model says, and all of it where nothing went wrong."""
        assert self.over
        for sample, tokens in self.tokens.items():
            assert tokens == [token_of([self.prompt], sample, place) for place in range(len(tokens))]
            assert (len(tokens) == TOKENS) == (sample in self.ended)
        if self.error is None:
            assert set(self.ended) | self.cancelled == set(range(self.samples))


def submit(client: EngineClient, prompt: int = 1, samples: int = 1) -> Reader:
    return Reader(client.submit([prompt], SAMPLING, samples), prompt, samples)


def finish(client: EngineClient, link: ScriptedLink) -> None:
    while link.running and client.open_requests:
        link.step()


def test_without_replay_a_loss_ends_every_request() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        reader = submit(client)
        link.step()
        link.lose()
        assert isinstance((await reader.read()).error, UnavailableError)
        with pytest.raises(UnavailableError):
            submit(client)

    run(test, replay_seconds=0.0)


def test_a_request_goes_on_with_the_next_engine_where_it_was() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        replays: list[None] = []
        client.on_replay = lambda: replays.append(None)
        readers = [submit(client, 1, samples=2), submit(client, 2)]
        link.step(lambda request, sample: (request, sample) != (1, 1))
        link.step(lambda request, _: request == 1)
        link.lose()
        assert not client.ready
        assert client.open_requests == 2
        link.welcome("second")
        assert [m.admitted for m in link.sent if isinstance(m, AddRequest)] == [False, False, True, True]
        finish(client, link)
        for reader in readers:
            (await reader.read()).check()
            assert reader.error is None
        assert len(replays) == 2

    run(test)


def test_samples_that_have_ended_or_were_cancelled_stay_so() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        reader = submit(client, samples=3)
        for _ in range(TOKENS):
            link.step(lambda _, sample: sample == 0)
        link.step()
        reader.stream.cancel_sample(1)
        reader.cancelled = {1}
        link.lose()
        link.welcome("second")
        assert link.sent[-2:] == [Abort(1, 0), Abort(1, 1)]
        finish(client, link)
        (await reader.read()).check()
        assert (len(reader.tokens[1]), reader.ended) == (1, [0, 2])

    run(test)


def test_what_the_reader_had_not_taken_yet_is_not_lost() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        reader = submit(client)
        link.step()
        link.step()
        link.lose()
        assert [output.token_id for output in await reader.stream.take()] == [token_of([1], 0, i) for i in (0, 1)]
        link.welcome("second")
        finish(client, link)
        rest = [output.token_id for output in await reader.stream.take()]
        assert rest == [token_of([1], 0, i) for i in range(2, TOKENS)]

    run(test)


def test_another_text_fails_the_request_and_frees_it() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        reader, fresh = submit(client), submit(client, 2)
        link.step(lambda request, _: request == 1)
        link.lose()
        link.shift = 1
        link.welcome("second")
        link.step()
        assert "differently" in str((await reader.read()).error)
        assert reader.tokens == {0: [token_of([1], 0, 0)]}
        assert Abort(1, -1) in link.sent
        assert [output.token_id for output in await fresh.stream.take()] == [token_of([2], 0, 0) + 1]

    run(test)


def test_an_earlier_end_is_another_text_too() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        reader = submit(client)
        link.step()
        link.step()
        link.lose()
        link.welcome("second")
        add, places = link.running[1]
        link.running[1] = (AddRequest(1, add.prompt, SamplingParams(max_new_tokens=1)), places)
        link.step()
        assert "differently" in str((await reader.read()).error)

    run(test)


def test_a_request_that_no_engine_survives_is_given_up_and_takes_one_at_a_time_with_it() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        readers = [submit(client, prompt) for prompt in (1, 2, 3)]
        killer = readers[0].stream.request_id
        for boot in range(1, 3):
            link.step(lambda request, _: request != killer)
            link.lose()
            link.welcome(str(boot))
        assert [*link.running] == [killer], "one suspect at a time"
        fresh = submit(client, 4)
        link.lose()
        assert isinstance((await readers[0].read()).error, UnavailableError)
        link.welcome("last")
        assert [*link.running] == [2, 4]
        link.step()
        assert [*link.running] == [2, 4], "the next suspect comes once this one has brought something new"
        link.step()
        assert [*link.running] == [2, 4, 3]
        finish(client, link)
        for reader in (*readers[1:], fresh):
            (await reader.read()).check()
            assert reader.error is None

    run(test)


def test_a_request_that_gets_further_with_each_engine_is_not_suspected() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        readers = [submit(client, prompt) for prompt in (1, 2)]
        for boot in range(1, TOKENS):
            for _ in range(boot):
                link.step()
            link.lose()
            link.welcome(str(boot))
            assert [*link.running] == [1, 2]
        finish(client, link)
        for reader in readers:
            (await reader.read()).check()
            assert reader.error is None

    run(test)


def test_a_suspect_waits_for_its_turn_but_not_for_ever_for_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_queue, "SWEEP_SECONDS", 0.001)

    async def test(client: EngineClient, link: ScriptedLink) -> None:
        readers = [submit(client, prompt) for prompt in (1, 2)]
        for boot in range(1, MAX_LOSSES):
            link.lose()
            link.welcome(str(boot))
        await asyncio.sleep(0.02)
        assert client.open_requests == 2
        link.lose()
        assert "stopped" in str((await readers[0].read()).error)
        assert "in time" in str((await readers[1].read()).error)

    run(test, 0.01)


def test_the_next_suspect_comes_once_the_one_before_was_cancelled() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        readers = [submit(client, prompt) for prompt in (1, 2)]
        for boot in range(1, MAX_LOSSES):
            link.lose()
            link.welcome(str(boot))
        assert [*link.running] == [1]
        readers[0].stream.cancel(ClientGoneError())
        assert 2 in link.running
        assert link.sent[-2] == Abort(1, -1), "the one before is freed first"

    run(test)


def test_new_requests_wait_for_the_next_engine_and_not_more_than_may_queue() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        link.lose()
        readers = [submit(client, prompt) for prompt in range(LIMITS.max_queued)]
        with pytest.raises(UnavailableError, match="full"):
            submit(client)
        with pytest.raises(UnavailableError):
            client.submit([1], SAMPLING, counted=False)
        readers[0].stream.cancel(ClientGoneError())
        link.welcome("second")
        adds = [message for message in link.sent if isinstance(message, AddRequest)]
        assert [add.prompt for add in adds] == [[prompt] for prompt in range(1, LIMITS.max_queued)]
        assert not any(add.admitted for add in adds)

    run(test)


@pytest.mark.parametrize("stopping", [False, True])
def test_no_request_waits_for_ever(monkeypatch: pytest.MonkeyPatch, stopping: bool) -> None:
    monkeypatch.setattr(replay_queue, "SWEEP_SECONDS", 0.001)

    async def test(client: EngineClient, link: ScriptedLink) -> None:
        readers = [submit(client)]
        link.lose()
        readers.append(submit(client))
        for reader in readers:
            assert "in time" in str((await reader.read()).error)
        assert client.open_requests == 0

    run(test, 600.0 if stopping else 0.01, lambda: stopping)


def test_a_deadline_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_queue, "SWEEP_SECONDS", 0.001)

    async def test(client: EngineClient, link: ScriptedLink) -> None:
        late = submit(client)
        token = _current.set(RequestContext(deadline=time.monotonic() + 0.05))
        hurried = submit(client)
        _current.reset(token)
        link.lose()
        link.welcome("second")
        first, second = (m.seconds_left for m in link.sent if isinstance(m, AddRequest) and m.request_id == 2)
        assert 0 < second < first <= 0.05
        link.lose()
        assert isinstance((await hurried.read()).error, UnavailableError)
        assert client.open_requests == 1
        late.stream.cancel(ClientGoneError())

    run(test)


def test_a_refusal_by_the_next_engine_ends_the_request() -> None:
    async def test(client: EngineClient, link: ScriptedLink) -> None:
        reader = submit(client)
        link.step()
        link.lose()
        link.welcome("second")
        link.on_message(Rejected(1, RejectReason.INVALID, "too long now"))
        assert isinstance((await reader.read()).error, InvalidRequestError)
        assert client.open_requests == 0

    run(test)


class Play:
    """Moves in any order, as far as they are possible."""

    def __init__(self, client: EngineClient, link: ScriptedLink, random: Random) -> None:
        self.client, self.link, self.random = client, link, random
        self.readers: list[Reader] = []
        self.tasks: list[asyncio.Task[Reader]] = []

    def submit(self) -> None:
        with suppress(UnavailableError):
            self.readers.append(submit(self.client, len(self.readers), self.random.randint(1, 3)))
            self.tasks.append(asyncio.ensure_future(self.readers[-1].read()))

    def lose(self) -> None:
        self.link.lose()

    def welcome(self) -> None:
        if not self.client.ready:
            self.link.welcome(self.random.choice([self.client._boot_id, str(self.random.random())]))

    def step(self) -> None:
        self.link.step(lambda *_: self.random.random() < 0.6)

    def reject(self) -> None:
        if self.link.running:
            request_id = self.random.choice([*self.link.running])
            del self.link.running[request_id]
            self.link.on_message(Rejected(request_id, RejectReason.QUEUE_FULL, "full"))

    def cancel(self) -> None:
        if (reader := self._open()) is not None:
            reader.stream.cancel(ClientGoneError())

    def cancel_sample(self) -> None:
        if (reader := self._open()) is not None:
            sample = self.random.choice(sorted(reader.stream._open))
            reader.cancelled.add(sample)
            reader.stream.cancel_sample(sample)

    def _open(self) -> Reader | None:
        left = [reader for reader in self.readers if not reader.stream.finished]
        return self.random.choice(left) if left else None


MOVES = ["submit", "lose", "welcome", "step", "step", "step", "cancel", "cancel_sample", "reject", "read"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(st.sampled_from(MOVES), max_size=40),
    random=st.randoms(use_true_random=False),
    replay=st.sampled_from([0.0, 30.0]),
)
def test_every_stream_ends_once_with_every_output_once(moves: list[str], random: Random, replay: float) -> None:
    async def body(client: EngineClient, link: ScriptedLink) -> None:
        play = Play(client, link, random)
        for move in moves:
            if move == "read":
                await asyncio.sleep(0)
            else:
                getattr(play, move)()
        play.welcome()
        finish(client, link)
        assert client.open_requests == 0
        assert not client._queue._waiting
        for reader in await asyncio.wait_for(asyncio.gather(*play.tasks), 10):
            reader.check()

    run(body, replay)
