"""Limits from the model, the operator's wishes and the machine's memory."""

from __future__ import annotations

import pytest

from runtime.config import EngineConfig
from runtime.engine.sizing import ASSUMED_AVAILABLE_BYTES, ModelSize, SizingError, choose_limits
from runtime.memory import available_memory

MB = 2**20
SMALL = ModelSize(context_length=8192, block_size=16, kv_bytes_per_token=23040, vocab_size=49152, eos_token_ids=(2,))
LARGE = ModelSize(context_length=131072, block_size=16, kv_bytes_per_token=131072, vocab_size=9, eos_token_ids=())


def config(**wishes: object) -> EngineConfig:
    return EngineConfig(bundle="b", socket="s", **wishes)


def test_defaults_take_the_models_context_and_the_usual_cache() -> None:
    limits = choose_limits(SMALL, config(), 16384 * MB)
    assert limits.max_request_tokens == 8192
    assert 255 * MB < limits.max_total_tokens * 23040 <= 257 * MB
    assert limits.max_total_tokens % 16 == 0


def test_a_long_context_is_held_to_lightllms_default_and_its_cache_grows_with_it() -> None:
    limits = choose_limits(LARGE, config(), 64 * 1024 * MB)
    assert limits.max_request_tokens == 16384
    assert limits.max_total_tokens >= 16384 + 8


def test_little_memory_lowers_the_longest_request() -> None:
    limits = choose_limits(LARGE, config(), 1024 * MB)
    assert limits.max_total_tokens * 131072 <= 257 * MB
    assert limits.max_request_tokens == 2048 - 8


def test_a_machine_that_does_not_tell_its_memory_is_assumed_to_be_small() -> None:
    assert choose_limits(LARGE, config(), None) == choose_limits(LARGE, config(), ASSUMED_AVAILABLE_BYTES)


def test_a_memory_fraction_takes_that_share() -> None:
    limits = choose_limits(SMALL, config(memory_fraction=0.5), 4096 * MB)
    assert 2047 * MB < limits.max_total_tokens * 23040 <= 2049 * MB


def test_steps_are_never_smaller_than_the_batch() -> None:
    limits = choose_limits(SMALL, config(max_step_tokens=32, max_running=1000), 4096 * MB)
    assert (limits.max_step_tokens, limits.max_running) == (32, 32)


def test_eos_ids_can_be_replaced() -> None:
    assert choose_limits(SMALL, config(eos_token_ids=()), 4096 * MB).eos_token_ids == ()
    assert choose_limits(SMALL, config(), 4096 * MB).eos_token_ids == (2,)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"max_request_tokens": 8193}, "context of 8192"),
        ({"max_request_tokens": 100, "max_total_tokens": 107}, "at least 108"),
        ({"max_total_tokens": 10**7}, "MB are available"),
        ({"eos_token_ids": (2, 49152)}, "EOS ids"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_with_numbers(wishes: dict[str, int], words: str) -> None:
    with pytest.raises(SizingError, match=words):
        choose_limits(SMALL, config(**wishes), 4096 * MB)


def test_an_explicit_request_length_that_does_not_fit_is_refused_and_not_lowered() -> None:
    with pytest.raises(SizingError, match="needs 2049 MB"):
        choose_limits(LARGE, config(max_request_tokens=16384), 1024 * MB)


def test_the_machine_has_memory() -> None:
    assert (available_memory() or 0) > 0
