import dataclasses

import pytest
from tiny import tiny_checkpoint

from build_engine.errors import BuildError
from build_engine.options import Profile
from build_engine.plan import BuildPlan, plan_build
from runtime.bundle.architecture import ScoreHead

GB = 1 << 30


def profile(precision: str = "auto", kv_dtype: str = "float16") -> Profile:
    return Profile(target="cpu", precision=precision, kv_dtype=kv_dtype, block_size=16)  # type: ignore[arg-type]


def plan(encoding: str = "q8_0", *, verify: bool = True, **choices: str) -> BuildPlan:
    checkpoint = tiny_checkpoint("llama", encoding=encoding)
    return plan_build(checkpoint, profile(**choices), verify=verify, free_disk=GB, free_memory=GB)


@pytest.mark.parametrize(
    ("encoding", "asked", "precision"),
    [
        ("q8_0", "auto", "import"),
        ("q4_1", "auto", "import"),
        ("f32", "auto", "int8"),
        ("q4_0", "int8", "int8"),
        ("f32", "fp32", "fp32"),
    ],
)
def test_auto_keeps_blocks_and_rounds_floats(encoding: str, asked: str, precision: str) -> None:
    assert plan(encoding, precision=asked).precision == precision


def test_auto_is_float_where_groups_do_not_fit() -> None:
    checkpoint = tiny_checkpoint("llama", hidden_size=72)
    assert plan_build(checkpoint, profile(), verify=False, free_disk=GB, free_memory=GB).precision == "fp32"


def test_a_score_head_is_float_whatever_the_precision() -> None:
    def sizes(**head: int) -> tuple[int, str]:
        checkpoint = tiny_checkpoint("llama", score_head=ScoreHead(**head))
        made = plan_build(checkpoint, profile(), verify=False, free_disk=GB, free_memory=GB)
        return made.engine_bytes, made.precision

    (linear, precision), (layers, odd) = sizes(), sizes(hidden_size=1001)
    assert precision == odd == "int8"
    assert layers - linear == (1001 * 64 + 1001 - 64) * 4


def test_float_weights_cannot_be_imported() -> None:
    with pytest.raises(BuildError, match="no quantised weights to import"):
        plan("f32", precision="import")


def test_a_context_of_millions_costs_disk_and_memory_and_is_refused_before_it_is_made() -> None:
    checkpoint = tiny_checkpoint("llama", context_length=1 << 24)
    made = plan_build(checkpoint, profile(), verify=False, free_disk=GB // 2, free_memory=GB)
    assert made.engine_bytes > (1 << 24) * checkpoint.architecture.head_dim * 4
    with pytest.raises(BuildError, match="of disk, but"):
        made.check()
    with pytest.raises(BuildError, match="of memory, but"):
        dataclasses.replace(made, free_disk=4 * GB).check()


def test_sizes_follow_the_precision() -> None:
    sizes = [plan("f32", precision=name).engine_bytes for name in ("int4", "int8", "fp32")]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_kv_bytes_follow_the_element_type() -> None:
    assert plan(kv_dtype="float32").kv_bytes_per_token == 2 * plan().kv_bytes_per_token
    assert plan().kv_bytes_per_token == 2 * 2 * 2 * 16 * 2


def test_verifying_takes_memory_and_time() -> None:
    assert plan(verify=True).build_seconds > plan(verify=False).build_seconds
    assert plan(verify=True).build_memory >= plan(verify=False).build_memory


def test_what_does_not_fit_is_refused_with_the_figures() -> None:
    plan().check()
    with pytest.raises(BuildError, match=r"needs \d+ MB of disk, but 1 MB are free"):
        dataclasses.replace(plan(), free_disk=10**6).check()
    with pytest.raises(BuildError, match=r"needs about \d+ MB of memory, but 1 MB are free"):
        dataclasses.replace(plan(), free_memory=10**6).check()
    dataclasses.replace(plan(), free_memory=None).check()


def test_the_lines_name_what_a_person_asks_first() -> None:
    text = "\n".join(plan().lines())
    for word in ("256 bytes per token", "tokens that fit", "build memory", "build time", "engine", "import"):
        assert word in text
    assert "unknown" in "\n".join(dataclasses.replace(plan(), free_memory=None).lines())


def test_tokens_that_fit_are_those_beside_the_engine() -> None:
    some = plan().tokens_that_fit
    more = dataclasses.replace(plan(), free_memory=2 * GB).tokens_that_fit
    assert some is not None
    assert more is not None
    assert more - some == GB // 256
    assert dataclasses.replace(plan(), free_memory=0).tokens_that_fit == 0
