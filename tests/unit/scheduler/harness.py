"""A scheduler driving a scripted executor: every token, or score, is checked against a run of the request alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel, next_token, score_of
from runtime.request import FinishReason, SamplingParams, TopLogprobs
from runtime.scheduler import (
    AdmissionPolicy,
    Aggressive,
    Emission,
    Group,
    KvCache,
    Scheduler,
    SchedulerConfig,
    Share,
    Speculation,
    Step,
    StepOutput,
    WaitingQueue,
    check_invariants,
)

SCRIPT = Script(vocab_size=97, eos_token_ids=(0,), eos_period=23, block_size=4, max_sequence_tokens=200)
REWARD = Script(vocab_size=97, block_size=4, max_sequence_tokens=200, scores=True)
LONGEST_RUN = 2000
STUCK = f"still waiting after {LONGEST_RUN} steps"


def expected_output(script: Script, prompt: list[int], params: SamplingParams) -> list[int]:
    """The greedy output of a request that is alone in the world."""
    tokens = list(prompt)
    for _ in range(params.max_new_tokens):
        tokens.append(next_token(script, tokens))
        if tokens[-1] in script.eos_token_ids and not params.ignore_eos:
            break
    return tokens[len(prompt) :]


@dataclass
class Harness:
    """One scheduler, one scripted executor, and what came out so far."""

    num_blocks: int = 64
    max_rows: int = 4
    max_step_tokens: int = 16
    spare_logit_rows: int = 2
    script: Script = SCRIPT
    policy: AdmissionPolicy = field(default_factory=Aggressive)
    prefix_cache: bool = True
    sharing: bool = True
    speculation: Speculation | None = None
    shares: dict[str, Share] = field(default_factory=dict)

    def __post_init__(self) -> None:
        eos = frozenset(self.script.eos_token_ids)
        self.executor = HostExecutor(
            ScriptedModel(self.script, self.num_blocks),
            eos_token_ids=eos,
            max_rows=self.max_rows,
            max_step_tokens=self.max_step_tokens,
            max_logit_rows=self.max_rows + self.spare_logit_rows,
            max_sequence_tokens=self.script.max_sequence_tokens,
        )
        self.scheduler = Scheduler(
            SchedulerConfig(
                max_rows=self.max_rows,
                max_step_tokens=self.max_step_tokens,
                max_logit_rows=self.max_rows + self.spare_logit_rows,
                eos_token_ids=eos,
            ),
            KvCache(self.num_blocks, self.script.block_size, sharing=self.sharing, prefix_cache=self.prefix_cache),
            self.policy,
            self.speculation,
            WaitingQueue(self.shares),
        )
        self.groups: dict[int, Group] = {}
        self.outputs: dict[tuple[int, int], list[int]] = {}
        self.logprobs: dict[tuple[int, int], list[float]] = {}
        self.top_logprobs: dict[tuple[int, int], list[TopLogprobs | None]] = {}
        self.scores: dict[tuple[int, int], float] = {}
        self.finishes: dict[tuple[int, int], FinishReason] = {}

    def add(
        self,
        number: int,
        prompt: list[int],
        samples: int = 1,
        salt: str = "",
        tenant: str = "",
        priority: int = 0,
        **params: object,
    ) -> Group:
        sampling = SamplingParams(**params)  # type: ignore[arg-type]
        key = (b"test", number)
        group = Group(key, list(prompt), sampling, samples=samples, salt=salt, tenant=tenant, priority=priority)
        self.groups[number] = group
        self.scheduler.add(group)
        return group

    def plan(self) -> Step | None:
        """Plan a step, which must be within its budgets and name each row once."""
        step = self.scheduler.plan()
        if step is not None:
            work = step.plan.work
            assert step.plan.tokens <= self.max_step_tokens
            assert sum(item.logit_rows for item in work) <= self.max_rows + self.spare_logit_rows
            assert len({item.row for item in work}) == len(work)
        return step

    def execute(self, step: Step) -> list[Emission]:
        """Run and commit a planned step; the books must balance after it."""
        return self.commit(step, self.executor.collect(self.executor.submit(step.plan)))

    def commit(self, step: Step, output: StepOutput) -> list[Emission]:
        """Commit what a step produced; the books must balance after it."""
        emissions = self.scheduler.commit(step, output)
        self.record(emissions)
        assert check_invariants(self.scheduler) == []
        return emissions

    def step(self) -> list[Emission]:
        """One whole transaction."""
        step = self.plan()
        return [] if step is None else self.execute(step)

    def run_ahead(self, depth: int) -> int:
        """Plan ``depth`` steps beyond the one to be committed, until nothing is left; returns the tokens run."""
        flying: deque[tuple[Step, StepOutput]] = deque()
        tokens = 0
        for _ in range(LONGEST_RUN):
            if not (self.scheduler.has_work or flying):
                return tokens
            step = self.plan()
            if step is not None:
                tokens += step.plan.tokens
                flying.append((step, self.executor.collect(self.executor.submit(step.plan))))
            if flying and (step is None or len(flying) > depth):
                self.commit(*flying.popleft())
        raise AssertionError(STUCK)

    def record(self, emissions: list[Emission]) -> None:
        for emission in emissions:
            key = (emission.sequence.group.key[1], emission.sequence.sample)
            assert key not in self.finishes, "output after the end"
            if emission.token >= 0:
                self.outputs.setdefault(key, []).append(emission.token)
                self.logprobs.setdefault(key, []).append(emission.logprob)
                self.top_logprobs.setdefault(key, []).append(emission.top_logprobs)
            if emission.score is not None:
                self.scores[key] = emission.score
            if emission.finish is not FinishReason.NONE:
                self.finishes[key] = emission.finish

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Step until nothing is left, or until something has come true, which then must."""
        for _ in range(LONGEST_RUN):
            if until() if until else not self.scheduler.has_work:
                return
            self.step()
        raise AssertionError(STUCK)

    def assert_exact(self) -> None:
        """Every sample that ended by itself has the output, or the score, of its solo run."""
        ended = [key for key, finish in self.finishes.items() if finish in (FinishReason.STOP, FinishReason.LENGTH)]
        if self.script.scores:
            assert self.scores == {key: score_of(self.script, self.groups[key[0]].prompt) for key in ended}
            assert not self.outputs
            return
        for number, sample in ended:
            group = self.groups[number]
            want = expected_output(self.script, group.prompt, group.params)
            assert self.outputs[number, sample] == want, (number, sample)
