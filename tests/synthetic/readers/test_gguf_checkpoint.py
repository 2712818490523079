from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import (
    ARRAY,
    F32,
    STRING,
    TYPES,
    U32,
    model_file,
    split_files,
    tensor_bytes,
    tokenizer_metadata,
)
from tiny import block_tensor, tiny_weight

from build_engine.errors import CheckpointError
from build_engine.families import expected_tensors
from build_engine.families.rope_factors import llama3_factors
from build_engine.sources import open_checkpoint
from runtime.bundle.architecture import RopeScaling


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "gemma2", "internlm2"])
@pytest.mark.parametrize("encoding", ["f32", "q4_0", "q4_1", "q8_0"])
def test_weights_come_back_in_hugging_face_order(path: Path, family: str, encoding: str) -> None:
    model_file(family, encoding, attention_bias=family in ("llama", "qwen2")).write(path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.architecture.family == family
    for name, shape in expected_tensors(checkpoint.architecture).items():
        values = tiny_weight(name, shape, 0)
        if encoding != "f32" and len(shape) > 1:
            # The writer permutes before it quantises; blocks lie within rows, so the order of both does not matter.
            expected = block_tensor(name, values, encoding)
            values = expected.float32()
            np.testing.assert_array_equal(checkpoint.tensors[name].blocks().values, expected.blocks().values)
        np.testing.assert_allclose(checkpoint.tensors[name].float32(), values, rtol=1e-6, atol=1e-7)


def test_the_source_and_the_special_ids_are_recorded(path: Path) -> None:
    checkpoint = open_checkpoint(model_file().write(path))
    assert (checkpoint.source.kind, checkpoint.source.name) == ("gguf", "model")
    assert checkpoint.source.path == str(path)
    assert len(checkpoint.source.digest) == 64
    assert (checkpoint.bos_token_id, checkpoint.eos_token_ids) == (0, (1,))
    assert checkpoint.chat_template is None


def test_an_end_of_turn_id_ends_samples_too_and_the_template_is_kept(path: Path) -> None:
    file = model_file()
    file.metadata += [("tokenizer.ggml.eot_token_id", U32, 3), ("tokenizer.chat_template", STRING, "{{ messages }}")]
    checkpoint = open_checkpoint(file.write(path))
    assert checkpoint.eos_token_ids == (1, 3)
    assert checkpoint.chat_template == "{{ messages }}"


def test_llama3_frequencies_become_rotary_scaling(path: Path) -> None:
    file = model_file(head_dim=64)
    factors = llama3_factors(RopeScaling(kind="llama3", factor=8.0), 10000.0, 64)
    data = tensor_bytes(np.array(factors, np.float32), "f32")
    file.tensors.append(("rope_freqs.weight", (32,), TYPES["f32"], data))
    scaling = open_checkpoint(file.write(path)).architecture.rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor) == ("llama3", 8.0)


def refused(path: Path, file: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(file.write(path))
    assert str(caught.value).count(str(path)) == 1
    return str(caught.value)


def test_a_missing_tensor_is_named(path: Path) -> None:
    file = model_file()
    file.tensors = [tensor for tensor in file.tensors if tensor[0] != "blk.1.ffn_up.weight"]
    assert "'blk.1.ffn_up.weight' missing" in refused(path, file)


def test_a_tensor_that_would_be_left_out_is_named_as_in_the_file(path: Path) -> None:
    file = model_file()
    file.tensors.append(("blk.0.ffn_gate_exps.weight", (1,), TYPES["f32"], b"\0" * 4))
    assert "'blk.0.ffn_gate_exps.weight' unknown" in refused(path, file)


def test_metadata_that_contradicts_the_tensors_is_refused(path: Path) -> None:
    file = model_file()
    file.metadata = [
        (key, kind, 128 if key == "llama.feed_forward_length" else value) for key, kind, value in file.metadata
    ]
    assert "the configuration says [128, 64]" in refused(path, file)


def test_a_tokenizer_larger_than_the_model_is_refused(path: Path) -> None:
    file = model_file()
    file.metadata = [entry for entry in file.metadata if not entry[0].startswith("tokenizer.")]
    tokens = next(entry for key, _, entry in tokenizer_metadata() if key.endswith("tokens"))
    file.metadata += tokenizer_metadata(
        tokens=((ARRAY, STRING), [*tokens, "extra"]), token_type=((ARRAY, 5), [1] * (len(tokens) + 1))
    )
    assert "the tokenizer has 263 tokens, the model only 262" in refused(path, file)


def test_partial_rotation_of_interleaved_rows_is_refused(path: Path) -> None:
    file = model_file()
    file.metadata.append(("llama.rope.dimension_count", U32, 8))
    assert "rotation of a part of each head" in refused(path, file)


def test_errors_of_the_metadata_name_the_file_once(path: Path) -> None:
    file = model_file()
    file.metadata.append(("llama.rope.scaling.type", STRING, "yarn"))
    assert "rope scaling 'yarn'" in refused(path, file)
    file = model_file()
    file.metadata.append(("llama.rope.scale_linear", F32, -1.0))
    assert "rope.scale_linear" in refused(path, file)


def test_one_part_under_another_name_is_refused(path: Path) -> None:
    file = model_file()
    file.metadata.append(("split.count", U32, 3))
    assert "is part 1 of 3, but not named so" in refused(path, file)


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_a_split_model_is_the_same_whichever_part_is_passed(path: Path, family: str) -> None:
    file = model_file(family, "q4_0")
    whole = open_checkpoint(file.write(path))
    for part in split_files(file, path, 3):
        checkpoint = open_checkpoint(part)
        assert checkpoint.architecture == whole.architecture
        assert (checkpoint.source.name, checkpoint.source.path) == (
            "model",
            str(path.parent / "model-00001-of-00003.gguf"),
        )
        assert list(checkpoint.tensors) == list(whole.tensors)
        for name, tensor in whole.tensors.items():
            np.testing.assert_array_equal(checkpoint.tensors[name].float32(), tensor.float32())


def test_errors_in_any_part_name_that_part_once(path: Path) -> None:
    file = model_file()
    paths = split_files(file, path, 2)
    factors = ("rope_freqs.weight", (8,), TYPES["f32"], tensor_bytes(np.full(8, np.nan, np.float32), "f32"))
    file.tensors.insert(1, factors)
    split_files(file, path, 2)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(paths[0])
    assert str(caught.value).startswith(f"{paths[1]}: tensor 'rope_freqs.weight'")


def test_longrope_tensors_become_rotary_scaling_and_bound_the_context(path: Path) -> None:
    file = model_file("phi3", rope_dim=12)
    short = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.5], np.float32)
    for name, values in (("rope_factors_short.weight", short), ("rope_factors_long.weight", short * 4)):
        file.tensors.append((name, (6,), TYPES["f32"], tensor_bytes(values, "f32")))
    file.metadata += [
        ("phi3.rope.scaling.original_context_length", U32, 128),
        ("phi3.rope.scaling.attn_factor", F32, 1.5),
    ]
    architecture = open_checkpoint(file.write(path)).architecture
    assert architecture.context_length == 128
    assert architecture.rope_scaling == RopeScaling(
        kind="longrope", factors=tuple(short.tolist()), attention_factor=1.5, original_context_length=128
    )


def test_reward_models_and_other_classifiers_are_refused(path: Path) -> None:
    file = model_file()
    file.tensors.append(("cls.output.weight", (64, 1), TYPES["f32"], b"\0" * 256))
    assert "is no generation model (tensor 'cls.output.weight')" in refused(path, file)


def test_the_texts_of_named_tokens_are_kept(path: Path) -> None:
    file = model_file()
    assert open_checkpoint(file.write(path)).special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    file.metadata += [("tokenizer.ggml.padding_token_id", U32, 3), ("tokenizer.ggml.unknown_token_id", U32, 2)]
    tokens = open_checkpoint(file.write(path)).special_tokens
    assert (tokens["pad_token"], tokens["unk_token"]) == ("<|im_end|>", "<|im_start|>")
    file.metadata[-2] = ("tokenizer.ggml.padding_token_id", U32, 5000)
    assert "pad_token" not in open_checkpoint(file.write(path)).special_tokens
