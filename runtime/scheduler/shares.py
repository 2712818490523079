"""What a tenant has had of the engine, and what of its requests waits and runs."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from runtime.scheduler.sequence import Group

GENERATED_COST = 2.0
"""What a generated token costs, in prompt tokens; as in the paper that `WaitingQueue` names."""

PLACES = 64
"""By how many of its tenant's requests one step of priority brings a request forward."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant may have of the engine.

    Attributes:
        weight: Its share, relative to the other tenants who want theirs at the moment.
        max_running: Its samples in flight at most.
    """

    weight: float = 1.0
    max_running: int | None = None


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant's books.

    A request's place in its tenant's queue is the number of requests that came before it, less `PLACES` for each step
    of its priority. So requests of one priority keep their order, and nobody is overtaken by more than `PLACES` for
    each step by which others are ahead, however many of those there are.

    Attributes:
        share: What it may have.
        served: Cost of what it has had, in prompt tokens over its weight: its virtual token counter.
        running: Its samples in flight.
        queue: Its requests that have not run yet, the next one first.
        queued_tokens: Those of their prompts.
        arrivals: Requests that it has queued.
    """

    share: Share
    served: float = 0.0
    running: int = 0
    queue: list[Group] = field(default_factory=list)
    queued_tokens: int = 0
    arrivals: int = 0

    @property
    def idle(self) -> bool:
        """Whether it has nothing here, as far as these books tell."""
        return not (self.queue or self.running)

    @property
    def can_run(self) -> bool:
        """Whether something waits, and its own limit lets that run."""
        if not self.queue:
            return False
        most = self.share.max_running
        return most is None or self.running + len(self.queue[0].live()) <= most

    def waiting(self, *, tokens: bool) -> int:
        """How many requests wait, or how many tokens their prompts have."""
        return self.queued_tokens if tokens else len(self.queue)

    @property
    def turn(self) -> tuple[float, int]:
        """Whose turn comes first: who has had least and, of those, whose next request came first."""
        return self.served, self.queue[0].place[1]

    def enqueue(self, group: Group, number: int) -> None:
        """Give a request its place; ``number`` is that of its arrival among all tenants'."""
        group.place = (self.arrivals - PLACES * group.priority, number)
        self.arrivals += 1
        insort(self.queue, group, key=_place)
        self.queued_tokens += group.prompt_length

    def find(self, group: Group) -> int:
        """Where in the queue a request is; -1 if it is not there."""
        index = bisect_left(self.queue, group.place, key=_place)
        return index if index < len(self.queue) and self.queue[index] is group else -1

    def dequeue(self, group: Group) -> None:
        """Take a request out of the queue."""
        del self.queue[self.find(group)]
        self.queued_tokens -= group.prompt_length

    def charge(self, tokens: float) -> None:
        """Note what the tenant has had."""
        self.served += tokens / self.share.weight


def _place(group: Group) -> tuple[int, int]:
    return group.place
