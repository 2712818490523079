"""No op reads or writes beside its tensors, whatever their shapes, and calls at the same time do not meet.

A read or write out of bounds ends the driver's process. Results are those of the op in onnxruntime, or of NumPy, so
that the driver is known to make the call that it claims to make.
"""

from __future__ import annotations

import numpy as np
import pytest
from attention_cases import Layout, random_call
from driver_cases import NORM_EPS, attention, conversion, embedding, linear, sampling, silu_mul
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import FORMS, available_linear_isas, normed, random_matrix, reference
from native_driver.calls import Call, Driver, DriverError

from runtime.native import active_isa, available_isas

ISAS = st.sampled_from(available_isas())
LINEAR_ISAS = st.sampled_from(available_linear_isas())
THREADS = st.integers(1, 4)
DRAWN = settings(max_examples=60, deadline=None)

LAYOUTS = st.builds(
    lambda kv_heads, group, head_dim, rotary, **options: Layout(
        num_heads=kv_heads * group,
        kv_num_heads=kv_heads,
        head_dim=head_dim,
        rotary_dim=2 * min(rotary, head_dim // 2),
        **options,
    ),
    st.integers(1, 3),
    st.integers(1, 7),
    st.sampled_from([2, 7, 16, 20, 33, 64, 80]).filter(lambda dim: dim % 2 == 0)
    | st.integers(1, 40).map(lambda n: 2 * n),
    st.integers(1, 40),
    block_size=st.sampled_from([1, 3, 8, 16, 32]),
    sliding_window=st.sampled_from([0, 0, 1, 30, 100]),
    softcap=st.sampled_from([0.0, 20.0]),
    norms=st.booleans(),
    cache=st.sampled_from(["float32", "float16", "bfloat16"]),
)
LENGTHS = st.lists(
    st.tuples(st.integers(0, 9) | st.integers(0, 150), st.integers(0, 70) | st.integers(0, 1100)),
    min_size=1,
    max_size=4,
)


@DRAWN
@given(layout=LAYOUTS, lengths=LENGTHS, isa=ISAS, threads=THREADS)
def test_attention(driver: Driver, layout: Layout, lengths: list[tuple[int, int]], isa: str, threads: int) -> None:
    out, k_cache, v_cache = driver.run(attention(layout, lengths), isa, threads=threads)
    if isa == active_isa():
        call = random_call(layout, lengths, spare_blocks=0)
        np.testing.assert_array_equal(out, call.native())
        assert k_cache.tobytes() == call.in_memory()["k_cache"].tobytes()
        assert v_cache.tobytes() == call.in_memory()["v_cache"].tobytes()


def expected_linear(case: Call, form: dict[str, int]) -> np.ndarray:
    x, _, bias, gain, residual = case.inputs
    matrix = random_matrix(case.attributes["N"], case.attributes["K"], **form)
    out = reference(matrix, x if gain is None else normed(x, gain, NORM_EPS), bias)
    return out if residual is None else out + residual


@DRAWN
@given(
    form=st.sampled_from(FORMS),
    rows=st.integers(1, 150),
    groups=st.integers(1, 4),
    count=st.integers(0, 9) | st.integers(0, 150),
    given=st.sets(st.sampled_from(["bias", "gain", "residual"])),
    linear_isa=LINEAR_ISAS,
    threads=THREADS,
)
def test_linear(driver: Driver, form, rows: int, groups: int, count: int, given: set[str], linear_isa: str, threads):
    case = linear(rows, groups * form["group"], count, form, **dict.fromkeys(given, True))
    (out,) = driver.run(case, active_isa(), linear_isa, threads)
    if count:
        np.testing.assert_array_equal(out, expected_linear(case, form))


@DRAWN
@given(
    form=st.sampled_from(FORMS),
    tiles=st.integers(1, 5),
    count=st.integers(0, 9) | st.integers(60, 140),
    gain=st.booleans(),
    isa=ISAS,
    linear_isa=LINEAR_ISAS,
    threads=THREADS,
)
def test_linear_with_swiglu(driver: Driver, form, tiles, count, gain: bool, isa: str, linear_isa: str, threads: int):
    case = linear(32 * tiles, 2 * form["group"], count, form, bias=True, gain=gain, swiglu=True)
    (out,) = driver.run(case, isa, linear_isa, threads)
    assert np.isfinite(out).all()


@DRAWN
@given(form=st.sampled_from(FORMS), rows=st.integers(1, 100), groups=st.integers(1, 4), count=st.integers(0, 300))
def test_embedding(driver: Driver, form, rows: int, groups: int, count: int) -> None:
    columns = groups * form["group"]
    (out,) = driver.run(embedding(rows, columns, count, form), active_isa(), threads=2)
    ids = np.random.default_rng(count).integers(0, rows, count)
    np.testing.assert_array_equal(out, random_matrix(rows, columns, **form).float32()[ids])


@DRAWN
@given(rows=st.integers(0, 9), width=st.integers(1, 9000), isa=ISAS, threads=THREADS)
def test_silu_mul(driver: Driver, rows: int, width: int, isa: str, threads: int) -> None:
    case = silu_mul(rows, width)
    (out,) = driver.run(case, isa, threads=threads)
    gate, up = np.split(case.inputs[0].astype(np.float64), 2, axis=1)
    np.testing.assert_allclose(out, gate / (1 + np.exp(-gate)) * up, rtol=1e-6)


@DRAWN
@given(count=st.integers(0, 70), isa=ISAS)
def test_conversions(driver: Driver, count: int, isa: str) -> None:
    floats, halves = driver.run(conversion(count, to_half=True), isa)
    np.testing.assert_array_equal(halves, floats.astype(np.float16))
    halves, floats = driver.run(conversion(count, to_half=False), isa)
    np.testing.assert_array_equal(halves.astype(np.float32), floats)


SAMPLED = st.fixed_dictionaries(
    {
        "top_k": st.sampled_from([-1, 1, 5, 100_000]),
        "top_p": st.sampled_from([1.0, 0.9, 1e-6]),
        "filtered": st.integers(0, 1),
        "temperature": st.sampled_from([1.0, 0.7]),
        "min_new_tokens": st.integers(0, 3),
        "log_decay": st.sampled_from([0.0, 0.2]),
        "counted": st.integers(0, 9),
        "allowed": st.sampled_from([0, 0, 5]),
        "seed": st.integers(0, 2**63),
    }
)


@DRAWN
@given(
    vocabulary=st.integers(1, 70) | st.integers(1, 5000),
    params=st.lists(SAMPLED, max_size=6),
    isa=ISAS,
    threads=THREADS,
)
def test_sampling(driver: Driver, vocabulary: int, params, isa: str, threads: int) -> None:
    case = sampling(vocabulary, params, threads=threads)
    after = driver.run(case, isa)
    assert ((after[6] >= 0) & (after[6] < vocabulary)).all()
    assert (after[7] <= 0).all()


def test_an_access_out_of_bounds_is_noticed(driver: Driver) -> None:
    beyond = Call(
        "peregrine_to_half", [np.zeros(8, np.float32), np.zeros(4, np.float16)], kernel=None, arguments=["0", "1", 8]
    )
    with pytest.raises(DriverError, match="exit status -11"):
        driver.run(beyond, active_isa(), callers=1)
