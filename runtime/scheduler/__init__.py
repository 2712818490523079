"""Who computes what in the next step: pure logic over ints and lists, standard library only."""

from runtime.scheduler.admission import AdmissionPolicy, Aggressive, Forecast, FuturePeak, peak_blocks
from runtime.scheduler.draft import Step
from runtime.scheduler.invariants import check_invariants
from runtime.scheduler.kv_cache import KvCache
from runtime.scheduler.plan import Logits, RowStart, RowWork, StepOutput, StepPlan
from runtime.scheduler.scheduler import Counters, Emission, Scheduler, SchedulerConfig
from runtime.scheduler.sequence import Group, Sequence

__all__ = [
    "AdmissionPolicy",
    "Aggressive",
    "Counters",
    "Emission",
    "Forecast",
    "FuturePeak",
    "Group",
    "KvCache",
    "Logits",
    "RowStart",
    "RowWork",
    "Scheduler",
    "SchedulerConfig",
    "Sequence",
    "Step",
    "StepOutput",
    "StepPlan",
    "check_invariants",
    "peak_blocks",
]
