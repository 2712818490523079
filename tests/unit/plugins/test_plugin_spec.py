"""What the kernels can be compiled for, and the sizes that follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from build_engine.errors import BuildError
from build_engine.plugins.launch import SHARED_BYTES, attention_launch, attention_tile, kv_write_launch, scratch_width
from build_engine.plugins.source import attention_source, kv_write_source
from build_engine.plugins.spec import MAX_HEAD_DIM, AttentionSpec
from runtime.bundle.architecture import Architecture

SPEC = AttentionSpec(
    dtype="float16", num_heads=32, num_kv_heads=8, head_dim=128, block_size=16, rotary_dim=128, scale=0.125, splits=16
)


def test_a_layer_of_a_model_gives_its_spec() -> None:
    architecture = Architecture(
        family="gemma2",
        vocab_size=100,
        hidden_size=64,
        intermediate_size=64,
        num_layers=2,
        num_heads=8,
        num_kv_heads=4,
        head_dim=256,
        context_length=4096,
        sliding_windows=(4096, 0),
        attention_scale=0.0625,
        attention_softcap=50.0,
    )
    spec = AttentionSpec.of_layer(architecture, 0, "bfloat16", 16)
    assert (spec.sliding_window, spec.scale, spec.softcap, spec.rotary_dim) == (4096, 0.0625, 50.0, 256)
    assert AttentionSpec.of_layer(architecture, 1, "bfloat16", 16).sliding_window == 0


def test_a_spec_survives_being_a_node_attribute() -> None:
    assert AttentionSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize("text", ["", "[]", '{"dtype": "float16"}', SPEC.to_json().replace("splits", "pieces")])
def test_an_attribute_that_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="plugin attribute spec"):
        AttentionSpec.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float32"}, "float16 or bfloat16"),
        ({"num_heads": 12}, "12 heads cannot share 8"),
        ({"num_kv_heads": 0}, "cannot share 0"),
        ({"head_dim": 127}, "head size 127: even"),
        ({"head_dim": 1024, "rotary_dim": 64}, "at most 576"),
        ({"rotary_dim": 130}, "rotary_dim 130"),
        ({"rotary_dim": 63}, "rotary_dim 63"),
        ({"block_size": 0}, "block_size 0"),
        ({"splits": 33}, "splits 33: 1 to 32"),
        ({"softcap": -1.0}, "at least 0"),
    ],
)
def test_what_the_kernels_cannot_do_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_a_warp_writes_each_head_of_each_token() -> None:
    launch = kv_write_launch(SPEC, 9)
    assert (launch.kernel, launch.grid, launch.block, launch.shared_bytes) == ("paged_kv_write", (9, 12, 1), 128, 0)
    assert kv_write_launch(replace(SPEC, num_heads=5, num_kv_heads=1), 1).grid == (1, 2, 1)


def test_attention_has_tiles_enough_for_every_way_to_cut_the_tokens() -> None:
    launch = attention_launch(SPEC, tokens=100, sequences=7)
    assert launch.grid == (100 * 4 // 64 + 7, 8, 16)
    assert launch.shared_bytes == 2 * 64 * 128 * 2


@pytest.mark.parametrize("counts", [(1,), (1, 1, 1), (17, 0, 1, 300), (64, 64), (0, 0, 5), (15, 16, 17, 1, 1)])
@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, num_heads=24), replace(SPEC, head_dim=256, num_heads=8)])
def test_tiles_of_different_sequences_never_share_a_block(spec: AttentionSpec, counts: tuple[int, ...]) -> None:
    """The kernel's rule: sequence ``b`` begins at tile ``cu_seqlens[b] * group // rows + b``."""
    rows, taken, start = attention_tile(spec).rows, [], 0
    for b, count in enumerate(counts):
        first = start * spec.group // rows + b
        taken += range(first, first + -(-count * spec.group // rows))
        start += count
    assert len(set(taken)) == len(taken)
    assert not taken or max(taken) < attention_launch(spec, start, len(counts)).grid[0]


def test_every_even_head_size_has_a_tile_in_the_memory_of_a_block() -> None:
    for head_dim in range(2, MAX_HEAD_DIM + 1, 2):
        spec = replace(SPEC, head_dim=head_dim, rotary_dim=2, splits=32)
        tile = attention_tile(spec)
        assert tile.rows * spec.splits * 4 <= tile.shared_bytes <= SHARED_BYTES
        assert spec.tensor_cores == (head_dim <= 128 and head_dim % 16 == 0)


def test_scratch_holds_counters_and_every_part_of_every_head() -> None:
    assert scratch_width(SPEC) == 8 + 32 * 16 * (128 + 2)
    assert scratch_width(replace(SPEC, num_heads=70, num_kv_heads=1, splits=1)) == 2 + 70 * 130


def test_sources_are_one_text_with_the_numbers_in_it() -> None:
    text = attention_source(replace(SPEC, softcap=30.0, sliding_window=512))
    assert "#define SOFTCAP 3.000000000e+01f\n" in text
    assert "#define WINDOW 512\n" in text
    assert "#include" not in text
    assert text.count("typedef unsigned short Element;") == 1
    assert "#define Q_SCALE 1.250000000e-01f\n" in kv_write_source(SPEC)


def test_head_sizes_choose_their_kernel() -> None:
    assert "multiply_add" in attention_source(SPEC)
    assert "multiply_add" not in attention_source(replace(SPEC, head_dim=256))
