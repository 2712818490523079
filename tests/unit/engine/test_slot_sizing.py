"""How many linear slots an engine gets."""

from __future__ import annotations

import pytest

from runtime.config import EngineConfig
from runtime.engine.sizing import ModelSize, SizingError
from runtime.engine.slot_sizing import DEVICE_SHARE, HOST_SHARE, SlotBounds, choose_slot_limits
from runtime.limits import EngineLimits

GB = 2**30
MODEL = ModelSize(
    context_length=4095, block_size=4096, kv_bytes_per_token=2**16, vocab_size=1000, eos_token_ids=(2,), scores=True
)
"""A slot takes a quarter of a gigabyte."""
BOUNDS = SlotBounds(slots=64, chunk=512)


def limits(available: int | None, share: float = DEVICE_SHARE, **wishes: object) -> EngineLimits:
    return choose_slot_limits(MODEL, BOUNDS, EngineConfig(bundle="b", socket="s", **wishes), available, share)


def test_as_many_slots_as_fit_the_memorys_usual_share() -> None:
    assert limits(10 * GB).max_running == 36
    assert limits(10 * GB, HOST_SHARE).max_running == 10
    assert limits(10 * GB, memory_fraction=0.5).max_running == 20


def test_never_more_than_the_engine_was_built_for() -> None:
    chosen = limits(1000 * GB)
    assert chosen.max_running == 64
    assert chosen.max_total_tokens == 64 * 4096
    assert (chosen.block_size, chosen.max_request_tokens, chosen.max_step_tokens) == (4096, 4095, 512)
    assert (chosen.vocab_size, chosen.eos_token_ids, chosen.scores, chosen.kv_bytes_per_token) == (
        1000,
        (2,),
        True,
        2**16,
    )


def test_no_more_than_may_run() -> None:
    assert limits(1000 * GB, max_running=7).max_total_tokens == 7 * 4096


def test_a_capacity_in_tokens_is_whole_slots() -> None:
    assert limits(10 * GB, max_total_tokens=3 * 4096 + 4095).max_running == 3


def test_a_step_has_room_for_a_token_of_each_slot() -> None:
    small = choose_slot_limits(
        MODEL, SlotBounds(slots=64, chunk=16), EngineConfig(bundle="b", socket="s"), 1000 * GB, DEVICE_SHARE
    )
    assert (small.max_running, small.max_step_tokens) == (64, 64)
    chosen = limits(1000 * GB, max_step_tokens=8)
    assert (chosen.max_running, chosen.max_step_tokens) == (8, 8)


def test_what_a_sequence_takes_beside_its_slot_counts() -> None:
    config = EngineConfig(bundle="b", socket="s")
    beside = choose_slot_limits(MODEL, BOUNDS, config, 10 * GB, 1.0, row_bytes=GB)
    assert beside.max_running == 8
    named = EngineConfig(bundle="b", socket="s", max_total_tokens=9 * 4096)
    with pytest.raises(SizingError, match="11520 MB of KV slots, 10240 MB are available"):
        choose_slot_limits(MODEL, BOUNDS, named, 10 * GB, 1.0, row_bytes=GB)


def test_memory_that_is_not_known_is_assumed_to_be_small() -> None:
    assert limits(None).max_running == 7


@pytest.mark.parametrize(
    ("wishes", "available", "words"),
    [
        ({"max_request_tokens": 4096}, 10 * GB, "context of 4095"),
        ({"max_total_tokens": 4095}, 10 * GB, "less than one KV slot of this engine, 4096 tokens"),
        ({"max_total_tokens": 41 * 4096}, 10 * GB, "needs 10496 MB of KV slots, 10240 MB are available"),
        ({}, GB // 4, "one KV slot of 4096 tokens needs 256 MB, 231 MB may be used"),
        ({}, -GB, "0 MB may be used"),
        ({"eos_token_ids": (1000,)}, 10 * GB, "EOS ids"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_with_numbers(wishes: dict[str, int], available: int, words: str) -> None:
    with pytest.raises(SizingError, match=words):
        limits(available, **wishes)
