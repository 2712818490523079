"""What became of every request: each is exactly one of a few things, or a violation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.soak.answers import Answer, UnreadableError, difference, read_stream, read_whole
from benchmarks.soak.asks import Ask
from benchmarks.soak.clients import Client
from benchmarks.soak.http_call import Reply

ANSWERED, SHED, FAILED, BROKEN = "answered", "shed", "failed", "broken off"
REFUSED, LEFT, ORPHANED, VIOLATION = "refused", "left", "orphaned", "VIOLATION"

OUTCOMES = {
    ANSWERED: "as alone, to the last bit",
    SHED: "503 or 429 since the queue was full",
    FAILED: "503 since the engine was gone",
    BROKEN: "a stream that ended with an error frame, right as far as it went",
    REFUSED: "4xx for what was no valid request",
    LEFT: "by the client",
    ORPHANED: "the connection of a worker that was killed",
    VIOLATION: "none of these",
}


@dataclass
class Ledger:
    """The books.

    Attributes:
        outcomes: Number of requests, by what became of them.
        messages: The server's words for what it did not answer.
        violations: What should not be, in words.
    """

    asks: list[Ask]
    solo: list[Answer]
    orphaned: Callable[[], set[int]]
    outcomes: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def enter(self, client: Client, reply: Reply) -> None:
        """Book one call that has come to its end."""
        try:
            outcome = self._outcome(client, reply)
        except (UnreadableError, ValueError, KeyError, TypeError) as error:
            outcome = VIOLATION
            self.violations.append(f"{error}: {_describe(client, reply)}")
        self.outcomes[outcome] += 1

    def _outcome(self, client: Client, reply: Reply) -> str:
        """What became of it.

        Raises:
            UnreadableError: Nothing that may become of a request.
        """
        if reply.end == "left":
            self._begun(client, reply)
            return LEFT
        if reply.end == "cut" and reply.local_port in self.orphaned():
            self._begun(client, reply)
            return ORPHANED
        if reply.end != "whole":
            message = "no answer in time" if reply.end == "silent" else f"the connection was {reply.end}"
            raise UnreadableError(message)
        if reply.status in (429, 503):
            return self._turned_away(client, reply)
        if client.ask is None:
            return self._refused(client, reply)
        if reply.status != 200:
            message = "a valid request was refused"
            raise UnreadableError(message)
        return self._answered(client, reply, client.ask)

    def _begun(self, client: Client, reply: Reply) -> None:
        """Check what there is of a stream."""
        if client.ask is not None and client.stream and reply.status == 200:
            found = read_stream(self.asks[client.ask], reply.frames)
            self._compare(client.ask, found, whole=False)

    def _turned_away(self, client: Client, reply: Reply) -> str:
        words = self._words(client, reply)
        if not reply.headers.get("retry-after", "").isdecimal():
            message = "no Retry-After"
            raise UnreadableError(message)
        self.messages[f"{reply.status} {words}"] += 1
        return SHED if "queue" in words else FAILED

    def _refused(self, client: Client, reply: Reply) -> str:
        if reply.status not in client.refusals:
            message = f"the status should be one of {client.refusals}"
            raise UnreadableError(message)
        self._words(client, reply)
        return REFUSED

    def _answered(self, client: Client, reply: Reply, ask: int) -> str:
        asked = self.asks[ask]
        found = read_stream(asked, reply.frames) if client.stream else read_whole(asked, bytes(reply.body))
        if found.ends != 1:
            message = f"{found.ends} ends"
            raise UnreadableError(message)
        self._compare(ask, found, whole=not found.error)
        if found.error:
            self.messages[f"error frame: {found.error}"] += 1
        return BROKEN if found.error else ANSWERED

    def _compare(self, ask: int, found: Answer, *, whole: bool) -> None:
        problem = difference(self.solo[ask], found, whole=whole)
        if problem:
            raise UnreadableError(problem)

    @staticmethod
    def _words(client: Client, reply: Reply) -> str:
        """The message of an error body in its API's shape."""
        document = json.loads(reply.body)
        if client.path.startswith("/v1"):
            return str(document["error"]["message"])
        return str(document.get("message") or document["detail"])


def _describe(client: Client, reply: Reply) -> str:
    return (
        f"{client.kind} {client.path}, stream {client.stream}, got {reply.status} ({reply.end}) after "
        f"{reply.ended - reply.began:.1f} s: {bytes(reply.body[-300:])!r}; it had sent {client.body[:300]!r}"
    )
