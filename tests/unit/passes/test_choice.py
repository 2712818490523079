"""When a build rotates."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import tiny_checkpoint

from build_engine.bundle_key import bundle_name
from build_engine.options import BuildOptions, complete
from build_engine.plan import BuildPlan, plan_build
from build_engine.recipes import BuildDefaults


def plan(family: str = "llama", encoding: str = "f32", **options: Any) -> BuildPlan:
    profile = complete(BuildOptions(**options), BuildDefaults())
    checkpoint = tiny_checkpoint(family, encoding=encoding)
    return plan_build(checkpoint, profile, verify=False, free_disk=1 << 30, free_memory=1 << 30)


@pytest.mark.parametrize(
    ("options", "rotated"),
    [
        ({}, True),
        ({"precision": "int8"}, True),
        ({"precision": "int8", "encoding": "q4_1"}, True),
        ({"encoding": "q4_1"}, False),
        ({"precision": "int4"}, False),
        ({"precision": "fp32"}, False),
        ({"precision": "int8", "rotate": False}, False),
        ({"precision": "int8", "family": "gemma2"}, False),
        ({"precision": "int8", "kv": "linear"}, False),
        ({"precision": "int8", "target": "cuda"}, False),
    ],
)
def test_paged_int8_engines_for_the_cpu_are_rotated_unless_told_otherwise(
    options: dict[str, Any], rotated: bool
) -> None:
    assert plan(**options).rotated == rotated


def test_a_rotated_model_has_a_head_beside_the_embedding_it_was_tied_to() -> None:
    without, with_head = (plan("qwen2", rotate=rotate).engine_bytes for rotate in (False, True))
    count = 260 * 64
    assert count * 0.85 < with_head - without < count * 17 / 16  # with wider groups all else is a little smaller


def test_bundles_with_and_without_have_names_of_their_own() -> None:
    names = {
        bundle_name("m", "ab", complete(BuildOptions(precision="int8", rotate=rotate), BuildDefaults()))
        for rotate in (True, False)
    }
    assert len(names) == 2
