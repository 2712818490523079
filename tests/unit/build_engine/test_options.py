from __future__ import annotations

from typing import Any

import pytest

from build_engine import options as module
from build_engine.bundle_key import bundle_name
from build_engine.errors import BuildError
from build_engine.options import DEFAULT_CAPABILITIES, BuildOptions, Profile, complete
from build_engine.recipes import BuildDefaults
from runtime.bundle.gpu import Gpu


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_gpu", lambda: "no NVIDIA driver")


def profile(**choices: Any) -> Profile:
    return complete(BuildOptions(**choices), BuildDefaults(precision="import", kv_dtype="float32"))


def test_a_paged_engine_takes_what_is_open_from_the_recipe() -> None:
    made = profile()
    assert (made.precision, made.kv_dtype, made.block_size, made.linear) == ("import", "float32", 16, None)


def test_recipes_do_not_speak_of_linear_engines() -> None:
    assert profile(kv="linear").precision == "fp32"
    assert profile(target="tensorrt-rtx").precision == "auto"
    assert profile(target="tensorrt-rtx", precision="int4").precision == "int4"


def test_tensorrt_has_linear_slots_without_being_asked() -> None:
    shape = profile(target="tensorrt-rtx", slots=3, max_seq_len=100, chunk=7, keep_onnx=True).linear
    assert shape is not None
    assert (shape.slots, shape.max_seq_len, shape.chunk, shape.keep_onnx) == (3, 100, 7, True)


def test_cuda_has_larger_blocks_and_asks_no_recipe_for_its_precision() -> None:
    made = profile(target="cuda")
    assert (made.precision, made.kv_dtype, made.block_size, made.linear) == ("auto", "float16", 256, None)
    assert profile(target="cuda", block_size=128).block_size == 128


def test_without_a_gpu_rtx_compiles_for_what_it_knows_and_tensorrt_for_nothing() -> None:
    shapes = [profile(target=target).linear for target in ("tensorrt-rtx", "tensorrt")]
    assert [shape.compute_capabilities for shape in shapes if shape] == [DEFAULT_CAPABILITIES, ()]


def test_a_gpu_is_compiled_for_unless_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_gpu", lambda: Gpu("Some GPU", "8.6"))
    shapes = [
        profile(target="tensorrt-rtx", compute_capabilities=capabilities).linear
        for capabilities in (None, ("12.0", "8.9", "12.0"))
    ]
    assert [shape.compute_capabilities for shape in shapes if shape] == [("8.6",), ("12.0", "8.9")]
    linear = profile(kv="linear").linear
    assert linear is not None
    assert linear.compute_capabilities == ()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"target": "tpu"}, "target 'tpu' is not known; targets: cpu, "),
        ({"precision": "fp16"}, "precision 'fp16' is not one of auto, import, int8, int4, fp32$"),
        ({"kv": "linear", "precision": "fp8"}, "precision 'fp8' is not one of .*bf16"),
        ({"kv": "spiral"}, "kv 'spiral' is not one of paged, linear"),
        ({"target": "tensorrt", "kv": "paged"}, "kv paged: target tensorrt is built with --kv linear"),
        ({"kv": "linear", "kv_dtype": "float16"}, "kv-dtype: linear slots have the type that the engine computes in"),
        ({"compute_capabilities": ("8.6",)}, "compute-capability: target cpu is not compiled for a GPU"),
        ({"target": "tensorrt-rtx", "compute_capabilities": ("sm_86",)}, "'sm_86' has to look like 8.6"),
        ({"target": "cuda", "kv": "linear"}, "kv linear: target cuda has a paged KV cache"),
        ({"target": "cuda", "kv_dtype": "float16"}, "kv-dtype: target cuda has the type that the engine computes in"),
        (
            {"target": "cuda", "precision": "fp32"},
            "precision 'fp32' is not one of auto, import, int8, int4, fp16, bf16$",
        ),
        ({"kv": "linear", "slots": 0}, "slots 0 is not between 1 and 1024"),
        ({"kv": "linear", "max_seq_len": 0}, "max-seq-len 0 is not between"),
        ({"kv": "linear", "chunk": 8193}, "chunk 8193 is not between"),
        ({"kv_dtype": "int8"}, "kv-dtype 'int8' is not one of"),
        ({"block_size": 0}, "block-size 0 is not between"),
        ({"name": "../x"}, "name '../x' has to be letters"),
    ],
)
def test_what_cannot_be_built_is_refused_by_the_options_name(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        profile(**choices)


def test_every_choice_of_a_linear_engine_changes_its_bundles_name() -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"slots": 9},
        {"max_seq_len": 99},
        {"chunk": 9},
        {"keep_onnx": True},
        {"compute_capabilities": ("8.9",)},
        {"precision": "int8"},
    ]
    profiles = [profile(), profile(kv="linear"), *(profile(target="tensorrt-rtx", **choice) for choice in choices)]
    assert len({bundle_name("m", "ab", made) for made in profiles}) == len(profiles)


def test_a_compilers_version_names_only_its_own_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    from build_engine import bundle_key

    names = [[bundle_name("m", "ab", profile(target=target)) for target in ("cpu", "tensorrt-rtx")]]
    known = bundle_key.version
    monkeypatch.setattr(bundle_key, "version", lambda package: "99" if package == "tensorrt-rtx" else known(package))
    names.append([bundle_name("m", "ab", profile(target=target)) for target in ("cpu", "tensorrt-rtx")])
    assert names[0][0] == names[1][0]
    assert names[0][1] != names[1][1]
