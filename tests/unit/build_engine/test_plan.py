import dataclasses
from typing import Any

import pytest
from tiny import tiny_checkpoint

from build_engine.errors import BuildError
from build_engine.options import Profile, SlotShape
from build_engine.plan import BuildPlan, plan_build
from build_engine.slot_plan import slot_element
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


def linear(target: str = "cpu", precision: str = "auto", **shape: int) -> Profile:
    return Profile(
        target=target,
        precision=precision,  # type: ignore[arg-type]
        kv_dtype="float16",
        block_size=16,
        linear=SlotShape(**shape),  # type: ignore[arg-type]
    )


def linear_plan(encoding: str = "f32", overrides: dict[str, Any] | None = None, **choices: Any) -> BuildPlan:
    checkpoint = tiny_checkpoint("llama", encoding=encoding, **(overrides or {}))
    return plan_build(checkpoint, linear(**choices), verify=False, free_disk=GB, free_memory=GB)


@pytest.mark.parametrize(
    ("overrides", "precision"), [({}, "fp16"), ({"embedding_scale": 8.0}, "bf16")], ids=["usual", "scaled up"]
)
def test_auto_is_a_half_float_on_gpus(overrides: dict[str, Any], precision: str) -> None:
    assert linear_plan("q8_0", target="tensorrt-rtx", overrides=overrides).precision == precision


def test_weights_that_were_trained_in_bfloat16_stay_so() -> None:
    checkpoint = tiny_checkpoint()
    checkpoint.tensors["model.embed_tokens.weight"] = dataclasses.replace(  # type: ignore[index]
        checkpoint.tensors["model.embed_tokens.weight"],
        encoding="bf16",  # type: ignore[type-var]
    )
    assert slot_element(checkpoint, linear("tensorrt-rtx")) == "bfloat16"
    assert slot_element(checkpoint, linear("tensorrt-rtx", "fp16")) == "float16"


def test_a_linear_engine_on_the_cpu_has_a_cache_of_float32() -> None:
    on_cpu, on_gpu = (linear_plan(target=target, precision="int8") for target in ("cpu", "tensorrt-rtx"))
    assert on_cpu.kv_bytes_per_token == 2 * on_gpu.kv_bytes_per_token
    assert on_cpu.build_memory < on_gpu.build_memory


@pytest.mark.parametrize(("encoding", "fits"), [("q8_0", True), ("q4_0", True), ("q4_1", False), ("f32", False)])
def test_only_blocks_without_offsets_are_imported(encoding: str, fits: bool) -> None:
    if fits:
        assert linear_plan(encoding, precision="import").precision == "import"
        return
    with pytest.raises(BuildError, match="has no blocks that such an engine can keep"):
        linear_plan(encoding, precision="import")


def test_sizes_of_linear_engines_follow_the_precision() -> None:
    sizes = [linear_plan(precision=name).engine_bytes for name in ("int4", "int8", "fp16", "fp32")]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4


def test_a_sequence_is_as_long_as_the_context_but_no_longer_than_most_need() -> None:
    long = {"context_length": 1 << 17}
    assert [linear_plan(overrides=over).context_length for over in ({}, long)] == [256, 2048]
    assert linear_plan(overrides=long, max_seq_len=5000).context_length == 5000
    with pytest.raises(BuildError, match="max-seq-len 257: the model's context ends at 256"):
        linear_plan(max_seq_len=257)


def test_a_plan_of_slots_says_what_they_take() -> None:
    made = linear_plan(target="tensorrt-rtx", slots=3, max_seq_len=100)
    text = "\n".join(made.lines())
    assert "for 3 slots of 100" in text
    assert "tokens that fit    unknown" in text


def test_a_compiled_engine_needs_room_for_its_graph_too() -> None:
    made = linear_plan(target="tensorrt-rtx")
    room = dataclasses.replace(made, free_disk=made.engine_bytes * 2 - 1)
    with pytest.raises(BuildError, match="of disk, but"):
        room.check()
    dataclasses.replace(room, compiled=False).check()
