from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_cases import Array, Layout, attention_model, open_session, random_call, run_op
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

LAYOUT = Layout(num_heads=4, kv_num_heads=2, head_dim=8, block_size=4)
LENGTHS = [(2, 3), (1, 9)]


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


def table(row: int, column: int, value: int) -> Array:
    changed = random_call(LAYOUT, LENGTHS).feeds["block_table"].copy()
    changed[row, column] = value
    return changed


BAD_INPUTS: dict[str, tuple[dict[str, Array], str]] = {
    "qkv width": ({"qkv": np.zeros((3, 60), np.float32)}, "qkv must have two dimensions, the last of 64"),
    "qkv rank": ({"qkv": np.zeros((3, 8, 8), np.float32)}, "qkv must have two dimensions"),
    "qkv rows": ({"qkv": np.zeros((4, 64), np.float32)}, "cu_seqlens runs from 0 to 3, qkv has 4 rows"),
    "cu_seqlens start": ({"cu_seqlens": ints(1, 2, 3)}, "cu_seqlens runs from 1 to 3"),
    "cu_seqlens falls": ({"cu_seqlens": ints(0, 4, 3)}, "cu_seqlens decreases at sequence 1"),
    "cu_seqlens empty": ({"cu_seqlens": ints()}, "cu_seqlens must have shape"),
    "cu_seqlens short": ({"cu_seqlens": ints(0, 3)}, r"past_lens must have shape \[1\]"),
    "past_lens negative": ({"past_lens": ints(3, -1)}, r"past_lens\[1\] is -1"),
    "past_lens length": ({"past_lens": ints(3)}, r"past_lens must have shape \[2\]"),
    "positions": ({"past_lens": ints(3, 2**31 - 1)}, "cos and sin have 11 positions"),
    "table rows": ({"block_table": ints(0, 1, 2).reshape(1, 3)}, "block_table must have a row for each of 2"),
    "table rank": ({"block_table": ints(0, 1, 2)}, "block_table must have two dimensions"),
    "table width": ({"block_table": ints(0, 1).reshape(2, 1)}, "its block table holds 1 blocks"),
    "block unset": ({"block_table": table(1, 2, -1)}, r"block_table\[1, 2\] is -1, the cache has 7 blocks"),
    "block beyond": ({"block_table": table(1, 0, 7)}, r"block_table\[1, 0\] is 7, the cache has 7 blocks"),
    "cos width": ({"cos": np.zeros((11, 3), np.float32)}, "cos must have two dimensions, the last of 4"),
    "sin rows": ({"sin": np.zeros((10, 4), np.float32)}, "cos and sin must have the same shape"),
    "q_norm": (
        {"q_norm": np.ones(7, np.float32), "k_norm": np.ones(8, np.float32)},
        r"q_norm must have shape \[8\]",
    ),
    "k_cache heads": ({"k_cache": np.zeros((7, 1, 4, 8), np.float32)}, r"k_cache must have shape \[num_blocks, 2,"),
    "k_cache rank": ({"k_cache": np.zeros((7, 8), np.float32)}, "k_cache must have shape"),
    "v_cache shape": ({"v_cache": np.zeros((8, 2, 4, 8), np.float32)}, "v_cache must have the shape of k_cache"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_are_refused(case: str) -> None:
    changes, message = BAD_INPUTS[case]
    call = random_call(LAYOUT, LENGTHS).copy(**changes)
    with pytest.raises(RuntimeError, match=message):
        call.native()


def test_a_refused_call_writes_nothing() -> None:
    call = random_call(LAYOUT, LENGTHS).copy(block_table=table(1, 2, 99))
    before = call.copy()
    with pytest.raises(RuntimeError):
        call.native()
    for name in ("k_cache", "v_cache"):
        np.testing.assert_array_equal(call.feeds[name], before.feeds[name])


@pytest.mark.parametrize("name", ["k_cache", "v_cache"])
def test_a_cache_output_elsewhere_is_refused(name: str) -> None:
    call = random_call(LAYOUT, LENGTHS)
    op = open_session(attention_model(LAYOUT, norms=False, attributes=LAYOUT.attributes))
    with pytest.raises(RuntimeError, match=f"{name}_out must be bound to the same memory as {name}"):
        run_op(op, call.feeds, **{name: call.feeds[name].copy()})


def test_cache_outputs_that_no_one_asks_for_are_the_inputs() -> None:
    call = random_call(LAYOUT, LENGTHS)
    expected = call.copy()
    op = open_session(attention_model(LAYOUT, norms=False, attributes=LAYOUT.attributes, outputs=1))
    np.testing.assert_array_equal(op.run(["out"], call.feeds)[0], expected.native())
    np.testing.assert_array_equal(call.feeds["k_cache"], expected.feeds["k_cache"])


def test_blocks_before_the_window_may_be_gone() -> None:
    layout = Layout(**(vars(LAYOUT) | {"sliding_window": 4}))
    call = random_call(layout, [(2, 9)])
    expected = call.copy().native()
    call.feeds["block_table"][0, 0] = -1
    np.testing.assert_array_equal(call.copy().native(), expected)
    call.feeds["block_table"][0, 1] = -1
    with pytest.raises(RuntimeError, match=r"block_table\[0, 1\] is -1"):
        call.native()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 0}, "head_dim is 0"),
        ({"num_heads": 5}, r"num_heads \(5\) must be a multiple of kv_num_heads \(2\)"),
        ({"kv_num_heads": 0}, "num_heads"),
        ({"rotary_dim": 7}, "rotary_dim is 7"),
        ({"rotary_dim": 10}, "rotary_dim is 10"),
        ({"sliding_window": -1}, "sliding_window is -1"),
        ({"softcap": -1.0}, "softcap"),
        ({"scale": float("nan")}, "must be finite"),
    ],
)
def test_bad_attributes_are_refused_when_the_session_opens(changes: dict[str, Any], message: str) -> None:
    model = attention_model(LAYOUT, norms=False, attributes=LAYOUT.attributes | changes)
    with pytest.raises((InvalidArgument, Fail, RuntimeException), match=message):
        open_session(model)


def test_attributes_have_defaults() -> None:
    required = {name: LAYOUT.attributes[name] for name in ("num_heads", "kv_num_heads", "head_dim")}
    call = random_call(LAYOUT, LENGTHS)
    op = open_session(attention_model(LAYOUT, norms=False, attributes=required))
    np.testing.assert_array_equal(run_op(op, call.copy().feeds), call.native())
