"""The scheduler: a step is a transaction of ``plan``, execute (elsewhere) and ``commit``, or ``Step.release``.

The currency is tokens to run per sequence and step. There is no prefill or decode phase: a sequence runs until
the KV cache has caught up with its tokens, and the run that catches up samples the next one, or gives a reward
model's score. Chunked prefill, prefix hits and recompute after a preemption are all that one rule.
"""

from __future__ import annotations

from runtime.request import FinishReason, TopLogprobs
from runtime.scheduler.admission import AdmissionPolicy, Load
from runtime.scheduler.config import SchedulerConfig
from runtime.scheduler.kv_cache import KvCache, blocks_for
from runtime.scheduler.outcome import Counters, Emission
from runtime.scheduler.plan import Logits, RowWork, StepOutput, StepPlan
from runtime.scheduler.sequence import NO_ROW, Group, RequestKey, Sequence
from runtime.scheduler.shares import GENERATED_COST
from runtime.scheduler.speculation import Speculation, add_drafts
from runtime.scheduler.step_builder import Step, StepBuilder, row_start
from runtime.scheduler.stopping import finish_reason
from runtime.scheduler.waiting import WaitingQueue


class Scheduler:
    """Decides what runs in each step, and keeps the books on rows, blocks and finished samples.

    Args:
        config: Limits of a step.
        kv: The block bookkeeping, owned by the scheduler from now on.
        policy: Who is admitted.
        speculation: What is drafted; ``None`` for nothing. Steps are then not to be planned ahead of a commit.
        waiting: Who is next, owned by the scheduler from now on; a queue for tenants who are all alike by default.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        kv: KvCache,
        policy: AdmissionPolicy,
        speculation: Speculation | None = None,
        waiting: WaitingQueue | None = None,
    ) -> None:
        self.config = config
        self.kv = kv
        self.policy = policy
        self.speculation = speculation
        self.waiting = WaitingQueue() if waiting is None else waiting
        self.withheld: list[Group] = []  # see runtime.scheduler.withholding
        self.admitting = True
        self.running: list[Sequence] = []  # in order of admission, a group's samples side by side
        self.groups: dict[RequestKey, Group] = {}
        self.counters = Counters()
        self.free_rows = list(range(config.max_rows - 1, -1, -1))
        self._next = StepPlan()  # row changes and copies that the next step has to carry

    # Requests in and out.

    def add(self, group: Group) -> None:
        """Queue a request."""
        self.groups[group.key] = group
        self.waiting.add(group)

    def can_ever_run(self, tokens: int, samples: int) -> bool:
        """Whether ``samples`` of ``tokens`` tokens each, prompt included, fit an otherwise empty engine."""
        longest = blocks_for(tokens, self.kv.block_size)
        return samples <= self.config.max_rows and samples * longest <= self.kv.pool.num_blocks

    def abort(self, key: RequestKey, sample: int = -1) -> bool:
        """End a request, or one of its samples, at once; returns whether it was there."""
        group = self.groups.get(key)
        if group is None:
            return False
        for sequence in group.live():
            if sample in (-1, sequence.sample):
                self._finish(sequence, FinishReason.ABORT)
        return True

    @property
    def has_work(self) -> bool:
        """Whether anything runs or waits."""
        return bool(self.running or self.waiting or self.withheld)

    def peak_tokens(self) -> int:
        """Estimated future maximum of KV tokens of the admitted batch."""
        return self.policy.peak(self.running, self._load()) * self.kv.block_size

    # The step transaction.

    def plan(self) -> Step | None:
        """Reserve blocks and rows for the next step; ``None`` when there is nothing to run now."""
        builder = StepBuilder(self.config.max_step_tokens, self.config.max_logit_rows - self.config.max_rows)
        decodes_first = sorted(self.running, key=lambda sequence: not sequence.decoding)
        for sequence in decodes_first:
            if sequence.row != NO_ROW and self._ready(sequence):
                self._schedule(sequence, builder)
        self._admit(builder)
        if self.speculation is not None:
            add_drafts(builder, self.speculation, self.running, self.kv)
        if not builder.planned:
            return None
        plan, self._next = self._next, StepPlan()
        plan.work = [item.work for item in builder.planned]
        return Step(plan, builder.planned)

    def commit(self, step: Step, output: StepOutput) -> list[Emission]:
        """Take in what a step produced: tokens, scores, ends, blocks for the prefix cache.

        Output of a sequence that ended while the step ran is dropped: never counted, never emitted.
        """
        emissions: list[Emission] = []
        for sequence, epoch, work in step.planned:
            sequence.pending -= work.samples
            if sequence.finished:
                continue
            if work.row in output.errors and not (work.draft and work.row in output.tokens):
                emissions.append(self._fail(sequence, output.errors[work.row]))
                continue
            self.counters.computed_tokens += work.count
            if epoch == sequence.started and work.row in output.prompt_logprobs:
                sequence.prompt_logprobs += output.prompt_logprobs[work.row]
                sequence.prompt_top_logprobs += output.prompt_top_logprobs.get(work.row, [])
            if epoch == sequence.epoch:
                sequence.committed += work.count - len(work.draft)
                self.kv.publish(sequence)
            if work.row in output.scores:
                self._finish(sequence, FinishReason.STOP)
                emissions.append(Emission(sequence, -1, 0.0, sequence.finish, score=output.scores[work.row]))
            elif work.samples:
                emissions += self._accept_drawn(sequence, work, output)
        return emissions

    def enter(self, group: Group) -> None:
        """Give each of a group's samples a row, of which there are enough."""
        self.waiting.joined(group)
        for sequence in group.live():
            sequence.row = self.free_rows.pop()
            self.running.append(sequence)

    def evict(self, group: Group) -> None:
        """Take a running group out of its rows; it is computed anew when it enters again."""
        for sequence in group.live():
            self._leave(sequence)
            sequence.epoch += 1

    def fail(self, group: Group, error: str) -> list[Emission]:
        """End a request with ``error``."""
        return [self._fail(sequence, error) for sequence in group.live()]

    # Planning.

    def _ready(self, sequence: Sequence) -> bool:
        """Whether a running sequence can be scheduled; starts it when its time has come."""
        if sequence.started != sequence.epoch:
            if sequence.waits_for_leader:
                return False
            self._start(sequence)
        # NOTE: the last allowed token may be in flight; running it would only take blocks from somebody else.
        return sequence.remaining > 0 and sequence.generated + sequence.pending < sequence.group.params.max_new_tokens

    def _schedule(self, sequence: Sequence, builder: StepBuilder) -> None:
        """Plan as many of the sequence's tokens as fit, preempting the youngest groups when blocks run out."""
        logits = Logits.ALL if sequence.wants_prompt_logprobs else Logits.LAST
        count = builder.cut(sequence.remaining, logits)
        if count == 0:
            return
        added = self.kv.extend(sequence, sequence.computed + count)
        while added is None:
            self._preempt(self.running[-1].group, builder)
            if sequence.row == NO_ROW:
                return
            added = self.kv.extend(sequence, sequence.computed + count)
        builder.add(sequence, added, count, logits)

    def _admit(self, builder: StepBuilder) -> None:
        """Start waiting groups in order, until the first that does not fit."""
        while self.admitting and builder.may_admit and (group := self.waiting.head()) is not None:
            live = group.live()
            if len(live) > len(self.free_rows) or any(sequence.pending for sequence in live):
                return
            if not self.policy.admits(self.running, group, self._load()):
                return
            self.waiting.admit()
            if not group.preempted:
                self.counters.admissions += 1
                self.counters.prompt_tokens += group.prompt_length
            group.preempted = False
            self.enter(group)
            for sequence in live:
                if sequence.row != NO_ROW and self._ready(sequence):
                    self._schedule(sequence, builder)

    def _start(self, sequence: Sequence) -> None:
        """Hand a sequence to the executor, with whatever the prefix cache has of it."""
        cached = self.kv.attach_prefix(sequence)
        if not sequence.generated:
            sequence.prompt_logprobs, sequence.prompt_top_logprobs = [], []
            sequence.cached = cached
            self.counters.prefix_queries += sequence.prompt_length
            self.counters.prefix_hits += cached
            self.waiting.charge(sequence.group, sequence.prompt_length - cached)
        self._hand_over(sequence)

    def _hand_over(self, sequence: Sequence) -> None:
        sequence.started = sequence.epoch
        self._next.starts.append(row_start(sequence))

    def _preempt(self, group: Group, builder: StepBuilder) -> None:
        """Put a running group back at the head of the queue; what it computed stays in the prefix cache."""
        for sequence in group.live():
            builder.drop(sequence)
        self.evict(group)
        group.preempted = True
        builder.preempted = True
        self.waiting.put_back(group)
        self.counters.preemptions += 1

    # Commit.

    def _accept(self, sequence: Sequence, token: int, logprob: float, top: TopLogprobs | None) -> Emission:
        sequence.tokens.append(token)
        self.counters.generated_tokens += 1
        self.waiting.charge(sequence.group, GENERATED_COST)
        if sequence.generated == 1 and sequence.sample == 0:
            self._fork_siblings(sequence)
        finish = finish_reason(sequence, self.config.eos_token_ids)
        if finish is not FinishReason.NONE:
            self._finish(sequence, finish)
        return Emission(sequence, token, logprob, finish, top_logprobs=top)

    def _accept_drawn(self, sequence: Sequence, work: RowWork, output: StepOutput) -> list[Emission]:
        """Take in the tokens drawn for a sequence, up to its end: one, and one more for each accepted guess."""
        tokens, logprobs = output.tokens[work.row], output.logprobs[work.row]
        tops: list[TopLogprobs | None] = [*output.top_logprobs.get(work.row, [None] * len(tokens))]
        emissions = [self._accept(sequence, tokens[0], logprobs[0], tops[0])]
        if not work.draft:
            return emissions
        self.counters.drafted_tokens += len(work.draft)
        self.counters.accepted_tokens += len(tokens) - 1
        for token, logprob, top in zip(tokens[1:], logprobs[1:], tops[1:], strict=True):
            if sequence.finished:
                return emissions
            sequence.computed += 1  # the guess before this token came true, so its KV is in the cache
            sequence.committed += 1
            emissions.append(self._accept(sequence, token, logprob, top))
        if not sequence.finished:
            self.kv.publish(sequence)
            self.kv.trim(sequence)
            if work.row in output.errors:
                emissions.append(self._fail(sequence, output.errors[work.row]))
        return emissions

    def _fail(self, sequence: Sequence, error: str) -> Emission:
        # NOTE: logits tell late that KV is spoilt: nothing of what the sequence computed is to be met again.
        self.kv.disown(sequence)
        self._finish(sequence, FinishReason.ERROR)
        return Emission(sequence, -1, 0.0, sequence.finish, error)

    def _fork_siblings(self, leader: Sequence) -> None:
        """The leader's prompt is in the cache: its siblings share it and recompute only the last prompt token.

        NOTE: a sibling for which no block is left is started later, like any other sequence.
        """
        if leader.row == NO_ROW:
            return
        for sibling in leader.group.sequences[1:]:
            if sibling.finished or sibling.row == NO_ROW or sibling.started == sibling.epoch:
                continue
            copies = self.kv.fork(leader, sibling, leader.prompt_length - 1)
            if copies is None:
                return
            sibling.cached = sibling.computed
            self._next.block_copies += copies
            self._hand_over(sibling)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish = reason
        if sequence.row != NO_ROW:
            self._leave(sequence)
        self.policy.observe(sequence)
        group = sequence.group
        if not group.live():
            del self.groups[group.key]
            self.waiting.discard(group)
            self.withheld = [other for other in self.withheld if other is not group]

    def _leave(self, sequence: Sequence) -> None:
        """Take row and blocks from a sequence.

        NOTE: it may never have reached the executor; ending a row that is not in use does nothing there.
        """
        self._next.starts = [start for start in self._next.starts if start.row != sequence.row]
        self._next.ends.append(sequence.row)
        self.kv.release(sequence)
        self.free_rows.append(sequence.row)
        sequence.row = NO_ROW
        self.running.remove(sequence)
        self.waiting.left(sequence.group)

    def _load(self) -> Load:
        return Load(self.kv.pool.num_blocks, self.kv.referenced, self.kv.block_size, self.kv.shareable)
