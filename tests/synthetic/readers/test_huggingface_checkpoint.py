import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_files import DTYPES, weights, write_directory, write_json
from safetensors.numpy import save_file
from tiny import tiny_architecture, tiny_weight
from tokenizers import Tokenizer

from build_engine.checkpoint import Checkpoint
from build_engine.errors import CheckpointError
from build_engine.families import FAMILIES, expected_tensors
from build_engine.sources import open_checkpoint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tiny-model"


def read_all(folder: Path) -> None:
    for tensor in open_checkpoint(folder).tensors.values():
        tensor.float32()


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_all(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_weights(checkpoint: Checkpoint, expected: dict[str, Any]) -> None:
    assert set(checkpoint.tensors) == set(expected)
    for name, values in expected.items():
        assert checkpoint.tensors[name].float32().dtype == np.float32
        np.testing.assert_array_equal(checkpoint.tensors[name].float32(), values.astype(np.float32))


def canonical(family: str, dtype: str = "f32") -> dict[str, Any]:
    """What a directory of ``write_directory`` has to be read as."""
    shapes = expected_tensors(tiny_architecture(family))
    values = {name: tiny_weight(name, shape, 0).astype(DTYPES[dtype]) for name, shape in shapes.items()}
    if family == "gemma2":
        norms = {name: (stored - 1).astype(np.float32) + 1 for name, stored in values.items() if "norm" in name}
        return values | norms
    return values


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_opens_with_its_architecture(folder: Path, family: str, dtype: str) -> None:
    checkpoint = open_checkpoint(write_directory(folder, family, dtype))
    assert checkpoint.architecture == tiny_architecture(family)
    assert (checkpoint.source.kind, checkpoint.source.name) == ("huggingface", "tiny-model")
    assert len(checkpoint.source.digest) == 64
    same_weights(checkpoint, canonical(family, dtype))


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_float_types_are_read(folder: Path, dtype: str) -> None:
    checkpoint = open_checkpoint(write_directory(folder, dtype=dtype))
    assert {tensor.encoding for tensor in checkpoint.tensors.values()} == {dtype}
    same_weights(checkpoint, weights(dtype=dtype))
    with pytest.raises(CheckpointError, match="no quantised blocks"):
        checkpoint.tensors["model.norm.weight"].blocks()


def test_shards_make_one_checkpoint(folder: Path) -> None:
    same_weights(open_checkpoint(write_directory(folder, shards=3)), weights())


def test_a_missing_shard_is_named(folder: Path) -> None:
    write_directory(folder, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "1 of 3 shards missing: 'model-00002-of-00003.safetensors'" in refused(folder)


@pytest.mark.parametrize("file", ["../model.safetensors", "model.bin", "/model.safetensors"])
def test_an_index_cannot_point_elsewhere(folder: Path, file: str) -> None:
    write_directory(folder, shards=2)
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"model.norm.weight": file}})
    assert "not the name of a safetensors file" in refused(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": []}])
def test_an_index_has_to_name_files(folder: Path, index: dict[str, Any]) -> None:
    write_directory(folder, shards=2)
    write_json(folder / "model.safetensors.index.json", index)
    assert "weight_map has to name the file of every tensor" in refused(folder)


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    write_directory(folder, shards=2)
    everything = weights()
    save_file(everything, folder / "model-00002-of-00002.safetensors")
    assert "is in model-00001-of-00002.safetensors too" in refused(folder)


def test_pickled_weights_are_refused_with_the_reason(folder: Path) -> None:
    write_directory(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refused(folder)
    assert "pickled (pytorch_model.bin)" in message
    assert "safetensors" in message
    (folder / "pytorch_model.bin").unlink()
    assert "has no weights" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 8, b"\xff" * 100])
def test_corrupt_safetensors_are_refused(folder: Path, content: bytes) -> None:
    write_directory(folder)
    (folder / "model.safetensors").write_bytes(content)
    assert "not a usable safetensors file" in refused(folder)


def test_truncated_safetensors_are_refused(folder: Path) -> None:
    write_directory(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a usable safetensors file" in refused(folder)


def test_missing_and_misshapen_tensors_are_named(folder: Path) -> None:
    write_directory(folder)
    tensors = weights()
    bias = {"model.layers.0.self_attn.q_proj.bias": np.zeros(64, np.float32)}
    norm = tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors")
    assert "'model.norm.weight' missing" in refused(folder)
    save_file(tensors | {"model.norm.weight": norm[:10]}, folder / "model.safetensors")
    assert "'model.norm.weight' has shape [10]" in refused(folder)
    save_file(tensors | {"model.norm.weight": norm} | bias, folder / "model.safetensors")
    assert "'model.layers.0.self_attn.q_proj.bias' unknown" in refused(folder)


def test_types_and_values_that_cannot_be_used_are_refused(folder: Path) -> None:
    write_directory(folder)
    for values, said in ((np.ones(64, np.int32), "stored as I32"), (np.full(64, np.nan, np.float32), "not finite")):
        save_file(weights() | {"model.norm.weight": values}, folder / "model.safetensors")
        assert f"'model.norm.weight' {'is' if 'as' in said else 'holds a value that is'} {said}" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "[" * 100_000])
def test_a_broken_configuration_is_refused(folder: Path, text: str) -> None:
    write_directory(folder)
    (folder / "config.json").write_text(text, "latin-1")
    assert "config.json" in refused(folder)


def test_errors_of_the_configuration_name_the_file(folder: Path) -> None:
    assert "config.json: hidden_act 'relu'" in refused(write_directory(folder, hidden_act="relu"))


@pytest.mark.parametrize(
    ("in_config", "in_generation", "template", "expected"),
    [
        (1, None, None, (1,)),
        ([1, 2], None, None, (1, 2)),
        (1, [3, 1], None, (1,)),
        (1, [3, 1], "{{ messages }}", (1, 3)),
        (None, 3, "{{ messages }}", (3,)),
        (None, None, None, (1,)),
    ],
)
def test_end_ids_come_from_both_configurations_for_chat_models_alone(
    folder: Path, in_config: Any, in_generation: Any, template: str | None, expected: tuple[int, ...]
) -> None:
    write_directory(folder, eos_token_id=in_config)
    if in_generation is not None:
        write_json(folder / "generation_config.json", {"eos_token_id": in_generation, "top_k": 7})
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.eos_token_ids == expected
    assert checkpoint.chat_template == template
    assert checkpoint.generation_config.get("top_k") == (7 if in_generation is not None else None)
    assert checkpoint.bos_token_id == 0


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        *(
            ({"quant_method": name}, f"'{name}'")
            for name in ("awq", "gptq", "compressed-tensors", "fp8", "bitsandbytes")
        ),
        ("gptq", "has to be an object"),
        ([1], "has to be an object"),
        ({"a": 1}, "an unknown method"),
    ],
)
def test_a_quantisation_of_any_kind_is_refused(folder: Path, key: str, value: Any, said: str) -> None:
    assert said in refused(write_directory(folder, **{key: value}))


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_a_quantised_directory_is_refused_saying_what_to_pass(folder: Path, name: str) -> None:
    write_directory(folder)
    write_json(folder / name, {"bits": 4})
    message = refused(folder)
    assert f"quantised by '{name}' are not read" in message
    assert "pass the float checkpoint that they were made from, or a GGUF file of the model" in message


@pytest.mark.parametrize("value", [None, {}])
def test_an_empty_quantisation_is_none(folder: Path, value: Any) -> None:
    assert open_checkpoint(write_directory(folder, quantization_config=value)).architecture.family == "llama"


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_numbers_that_json_does_not_have_are_refused(folder: Path, name: str) -> None:
    write_directory(folder)
    (folder / name).write_text('{"temperature": Infinity}')
    assert f"{name}: is not valid JSON: Infinity" in refused(folder)


def test_a_chat_template_has_to_be_a_text(folder: Path) -> None:
    write_directory(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, json.loads(path.read_text()) | {"chat_template": 5})
    assert "chat template" in refused(folder)


def test_a_post_processor_cannot_add_ids_that_the_model_does_not_have(folder: Path) -> None:
    write_directory(folder)
    contents = json.loads((folder / "tokenizer.json").read_text())
    contents["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<x>": {"id": "<x>", "ids": [260], "tokens": ["<x>"]}},
    }
    write_json(folder / "tokenizer.json", contents)
    assert "puts ids around a text" in refused(folder)


@pytest.mark.parametrize("eos", ["</s>", [1, None], 5000, -1])
def test_end_ids_have_to_be_tokens(folder: Path, eos: Any) -> None:
    assert "eos_token_id" in refused(write_directory(folder, eos_token_id=eos))


def test_the_tokenizer_is_the_one_of_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    write_directory(folder)
    theirs = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    ours = Tokenizer.from_str(open_checkpoint(folder).tokenizer_json.decode())
    for text in ("What is AI?", "<|im_start|>user\n你好 🎉<|im_end|>", ""):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_the_texts_of_named_tokens_are_kept_as_far_as_the_model_has_them(folder: Path) -> None:
    write_directory(folder)
    assert open_checkpoint(folder).special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    path = folder / "tokenizer_config.json"
    more = {"pad_token": "<|im_end|>", "unk_token": "<beyond>"}
    write_json(path, json.loads(path.read_text()) | more)
    expected = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|im_end|>"}
    assert open_checkpoint(folder).special_tokens == expected


def test_a_template_in_the_tokenizer_configuration_is_found(folder: Path) -> None:
    write_directory(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, json.loads(path.read_text()) | {"chat_template": "{{ x }}"})
    assert open_checkpoint(folder).chat_template == "{{ x }}"


@pytest.mark.parametrize("text", [None, "", "{}", '{"model": 5}'])
def test_a_directory_without_a_usable_tokenizer_is_refused(folder: Path, text: str | None) -> None:
    write_directory(folder)
    (folder / "tokenizer.json").unlink()
    if text is not None:
        (folder / "tokenizer.json").write_text(text)
    assert "tokenizer" in refused(folder)


def test_a_panic_of_the_tokenizer_library_is_one_message(folder: Path) -> None:
    write_directory(folder)
    contents = json.loads((folder / "tokenizer.json").read_text())
    contents["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    write_json(folder / "tokenizer.json", contents)
    assert "the tokenizer is corrupt: Precompiled" in refused(folder)


def test_added_tokens_beyond_the_embeddings_are_left_out(folder: Path) -> None:
    write_directory(folder)
    path = folder / "tokenizer_config.json"
    extra = {"260": {"content": "<extra>", "special": True}}
    write_json(path, json.loads(path.read_text()) | {"added_tokens_decoder": extra})
    tokenizer = Tokenizer.from_str(open_checkpoint(folder).tokenizer_json.decode())
    assert max(tokenizer.get_vocab().values()) == 259
    assert tokenizer.decode(tokenizer.encode("<extra>").ids) == "<extra>"
    assert tokenizer.encode("<|im_end|>").ids == [3]


def test_a_vocabulary_larger_than_the_model_is_refused(folder: Path) -> None:
    write_directory(folder)
    contents = json.loads((folder / "tokenizer.json").read_text())
    contents["model"]["vocab"]["extra"] = 260
    write_json(folder / "tokenizer.json", contents)
    assert "the tokenizer has 261 tokens, the model only 260 embeddings" in refused(folder)


def test_tokenizers_with_code_of_their_own_are_not_run(folder: Path) -> None:
    write_directory(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "evil.py").write_text("raise SystemExit('ran')\n")
    settings = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
    write_json(folder / "tokenizer_config.json", settings)
    assert "the tokenizer cannot be loaded" in refused(folder)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"internlm2"}))
def test_defaults_are_those_of_transformers(family: str) -> None:
    from transformers import AutoConfig

    from build_engine.families import architecture_from_config

    values = AutoConfig.for_model(family, hidden_size=512, num_attention_heads=32).to_dict()
    given = {
        key: values[key]
        for key in ("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                    "num_attention_heads", "max_position_embeddings")
    }  # fmt: skip
    architecture = architecture_from_config(given)
    assert architecture.num_kv_heads == values["num_key_value_heads"]
    assert architecture.head_dim == values.get("head_dim", 16)
    assert architecture.norm_eps == values["rms_norm_eps"]
    assert architecture.rope_theta == values["rope_parameters"]["rope_theta"]
    assert architecture.tied_embeddings == values["tie_word_embeddings"]
    assert architecture.window(0) == (values.get("sliding_window") or 0)
    kinds = values.get("layer_types") or []
    assert [architecture.window(layer) > 0 for layer, kind in enumerate(kinds)] == [
        kind == "sliding_attention" for kind in kinds
    ]
    assert architecture.activation == ("gelu_tanh" if family == "gemma2" else "silu")
    assert architecture.attention_softcap == values.get("attn_logit_softcapping", 0.0)
    assert architecture.logits_softcap == values.get("final_logit_softcapping", 0.0)
    assert architecture.scale == values.get("query_pre_attn_scalar", architecture.head_dim) ** -0.5
    assert architecture == architecture_from_config(values)


@pytest.mark.parametrize("family", ["phi3", "internlm2"])
def test_packed_projections_are_read_by_rows_in_shards_too(folder: Path, family: str) -> None:
    checkpoint = open_checkpoint(write_directory(folder, family, shards=3))
    same_weights(checkpoint, canonical(family))
    for name, tensor in checkpoint.tensors.items():
        assert tensor.name == name


def test_a_packed_projection_is_named_as_in_the_file(folder: Path) -> None:
    write_directory(folder, "phi3")
    tensors = weights("phi3")
    name = "model.layers.1.mlp.gate_up_proj.weight"
    save_file(tensors | {name: tensors[name][:-1]}, folder / "model.safetensors")
    assert f"'{name}' has shape [191, 64]; the configuration says [192, 64]" in refused(folder)
    save_file(tensors | {name: np.full_like(tensors[name], np.inf)}, folder / "model.safetensors")
    assert f"'{name}' holds a value that is not finite" in refused(folder)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    assert f"'{name}' missing" in refused(folder)
