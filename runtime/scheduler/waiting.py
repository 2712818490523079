"""Who is next: those who had to give way, then everybody by the fair shares of tenants."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from runtime.scheduler.sequence import Group
from runtime.scheduler.shares import Share, Tenant

_ALIKE = Share()
_NO_SHARES: Mapping[str, Share] = MappingProxyType({})


class WaitingQueue:
    """Requests that wait to be admitted.

    Those that were preempted resume first. Of the others, it is the turn of the tenant that has had the least for its
    weight: the virtual token counters of *Fairness in Serving Large Language Models* (Sheng et al., OSDI'24). Prompt
    tokens that are computed count when a request starts, generated ones as they come. A tenant whose queue was empty
    begins where the others are, and so does one that was held up by its own limit: what was not used in time is lost,
    it never becomes a claim to the whole engine.

    Whoever's turn it is keeps it until one of its requests is admitted. A large request for which there is no room is
    so never passed over for small ones, whose tenants would have had less by the time that there is.

    With one tenant and one priority this is a plain queue.

    Args:
        shares: By tenant, of those whose shares differ from everybody's.
    """

    def __init__(self, shares: Mapping[str, Share] = _NO_SHARES) -> None:
        self.resuming: deque[Group] = deque()
        self._shares = shares
        self._tenants: dict[str, Tenant] = {}
        self._turn: Tenant | None = None
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.resuming) + sum(len(tenant.queue) for tenant in self._tenants.values())

    def __iter__(self) -> Iterator[Group]:
        yield from self.resuming
        for tenant in self._tenants.values():
            yield from tenant.queue

    def __contains__(self, group: Group) -> bool:
        tenant = self._tenants.get(group.tenant)
        return group in self.resuming or (tenant is not None and tenant.find(group) >= 0)

    @property
    def tenants(self) -> Mapping[str, Tenant]:
        """The books of those who have something here, or have had more than their share of late."""
        return self._tenants

    @property
    def tokens(self) -> int:
        """Prompt tokens of the requests that have not run yet."""
        return sum(tenant.queued_tokens for tenant in self._tenants.values())

    def part(self, name: str) -> float:
        """A tenant's part of the engine, in (0, 1], among those who wait now."""
        weight = self._share(name).weight
        others = sum(t.share.weight for other, t in self._tenants.items() if t.queue and other != name)
        return weight / (weight + others)

    def surplus(self, name: str, need: int, more: int, *, tokens: bool) -> list[Group]:
        """Requests that should go before one of ``name`` is turned away, so that nobody fills the queue for all.

        They are the last ones of the tenant that has the most waiting for its weight; none, where that would then have
        less than ``name``. Routers know this as dropping from the longest queue.

        Args:
            name: Who wants to queue something.
            need: How many requests, or tokens of their prompts, have to go.
            more: How many would come.
            tokens: Tokens are counted, not requests.
        """
        if not self._tenants:
            return []
        longest = max(self._tenants.values(), key=lambda t: t.waiting(tokens=tokens) / t.share.weight)
        tenant = self._tenants.get(name)
        mine = more + (0 if tenant is None else tenant.waiting(tokens=tokens))
        if (longest.waiting(tokens=tokens) - need) / longest.share.weight < mine / self._share(name).weight:
            return []
        gone: list[Group] = []
        for group in reversed(longest.queue):
            if need <= 0:
                break
            gone.append(group)
            need -= group.prompt_length if tokens else 1
        return gone

    # Requests in and out.

    def add(self, group: Group) -> None:
        """Queue a new request."""
        tenant = self._tenant(group.tenant)
        if not tenant.queue:
            tenant.served = max(tenant.served, self._least_served())
        tenant.enqueue(group, self._arrivals)
        self._arrivals += 1

    def put_back(self, group: Group) -> None:
        """Let a request that had to give way resume before everybody else."""
        self.resuming.appendleft(group)

    def discard(self, group: Group) -> None:
        """Forget a request that has ended, if it waits."""
        if group in self.resuming:
            self.resuming.remove(group)
        elif group in self:
            self._tenants[group.tenant].dequeue(group)

    def head(self) -> Group | None:
        """The request to be admitted next; none where nobody waits, or the limits of all who do are reached."""
        if self.resuming:
            return self.resuming[0]
        if self._turn is None or not self._turn.can_run:
            self._turn = self._choose()
        return None if self._turn is None else self._turn.queue[0]

    def admit(self) -> None:
        """The head runs now."""
        group = self.head()
        assert group is not None, "somebody waits"
        if self.resuming:
            self.resuming.popleft()
        else:
            self._tenants[group.tenant].dequeue(group)
            self._turn = None

    # What becomes of those that run.

    def charge(self, group: Group, tokens: float) -> None:
        """A request has had so many prompt tokens' worth of the engine."""
        self._tenant(group.tenant).charge(tokens)

    def joined(self, group: Group) -> None:
        """The samples of a request run from now on."""
        self._tenant(group.tenant).running += len(group.live())

    def left(self, group: Group) -> None:
        """One sample of a request runs no longer."""
        self._tenant(group.tenant).running -= 1

    def _share(self, name: str) -> Share:
        return self._shares.get(name, _ALIKE)

    def _tenant(self, name: str) -> Tenant:
        tenant = self._tenants.get(name)
        if tenant is None:
            least = self._least_served()
            # NOTE: who has nothing here and no more than anybody would begin with need not be remembered.
            self._tenants = {n: t for n, t in self._tenants.items() if not t.idle or t.served > least}
            tenant = self._tenants[name] = Tenant(self._share(name), served=least)
        return tenant

    def _least_served(self) -> float:
        """What those whose turn it can be have had at least; without any, the most that anybody has had."""
        able = [tenant.served for tenant in self._tenants.values() if tenant.can_run]
        return min(able) if able else max((tenant.served for tenant in self._tenants.values()), default=0.0)

    def _choose(self) -> Tenant | None:
        waiting = [tenant for tenant in self._tenants.values() if tenant.queue]
        chosen = min((tenant for tenant in waiting if tenant.can_run), key=lambda t: t.turn, default=None)
        if chosen is not None:
            for tenant in waiting:  # only those that their own limits hold up can have had less
                tenant.served = max(tenant.served, chosen.served)
        return chosen
