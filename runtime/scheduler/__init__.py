"""Who computes what in the next step: pure logic over ints and lists, standard library only."""

from runtime.scheduler.admission import AdmissionPolicy, Aggressive, Forecast, FuturePeak, peak_blocks
from runtime.scheduler.config import SchedulerConfig
from runtime.scheduler.invariants import check_invariants
from runtime.scheduler.kv_cache import KvCache
from runtime.scheduler.outcome import Counters, Emission
from runtime.scheduler.past_future import PastFuture
from runtime.scheduler.plan import Logits, RowStart, RowWork, StepOutput, StepPlan
from runtime.scheduler.scheduler import Scheduler
from runtime.scheduler.sequence import Group, Sequence
from runtime.scheduler.shares import Share
from runtime.scheduler.speculation import (
    DraftSource,
    FixedSpeculation,
    MeasuredSpeculation,
    PromptLookup,
    Speculation,
)
from runtime.scheduler.step_builder import Step
from runtime.scheduler.waiting import WaitingQueue

__all__ = [
    "AdmissionPolicy",
    "Aggressive",
    "Counters",
    "DraftSource",
    "Emission",
    "FixedSpeculation",
    "Forecast",
    "FuturePeak",
    "Group",
    "KvCache",
    "Logits",
    "MeasuredSpeculation",
    "PastFuture",
    "PromptLookup",
    "RowStart",
    "RowWork",
    "Scheduler",
    "SchedulerConfig",
    "Sequence",
    "Share",
    "Speculation",
    "Step",
    "StepOutput",
    "StepPlan",
    "WaitingQueue",
    "check_invariants",
    "peak_blocks",
]
