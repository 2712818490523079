"""The other files of checkpoints, recipes and bundles: safetensors, tokenizers, configurations, manifests."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import msgspec
import numpy as np
from fuzz import scratch
from fuzz.choices import Choices
from safetensors.numpy import save
from toy_manifest import toy_manifest
from toy_tokenizer import toy_tokenizer

from build_engine.errors import BuildError, CheckpointError
from build_engine.families import FAMILIES, architecture_from_config
from build_engine.readers.huggingface_files import INDEX, read_json, weight_files
from build_engine.readers.safetensors_file import read_safetensors
from build_engine.recipes import load_recipe
from build_engine.tokenizers.sentencepiece_model import read_sentencepiece
from runtime.bundle.architecture import Architecture, RopeScaling
from runtime.bundle.bundle import open_bundle
from runtime.bundle.errors import BundleError
from runtime.bundle.manifest import FileEntry, KvLayout, Manifest, Source
from server.generation_defaults import GenerationDefaults, read_defaults
from server.tokenizer import TextCodec

TENSORS = save({"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float16)})
CONFIG = {"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96} | {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
CONFIG_KEYS = (
    *CONFIG,
    *("architectures", "rope_scaling", "rope_parameters", "rope_theta", "rope_type", "type", "factor", "head_dim"),
    *("long_factor", "short_factor", "sliding_window", "layer_types", "rms_norm_eps", "tie_word_embeddings"),
    *("partial_rotary_factor", "attention_bias", "hidden_act", "is_causal", "num_labels", "low_freq_factor", "bias"),
    *("original_max_position_embeddings", "query_pre_attn_scalar", "max_window_layers", "use_sliding_window"),
)
MANIFEST = msgspec.json.encode(toy_manifest(files=(FileEntry(name="model.onnx", size=0, sha256="0" * 64),)))
MANIFEST_KEYS = tuple(
    name
    for kind in (Manifest, Architecture, Source, FileEntry, KvLayout, RopeScaling)
    for name in kind.__struct_fields__
)
TOKENIZER_KEYS = ("type", "content", "id", "vocab", "merges", "pattern", "Regex")
TOKENIZER = toy_tokenizer().to_str()
TOKENIZER_PARTS: dict[str, object] = json.loads(TOKENIZER)
RECIPE = 'description = "a"\nlicence = "b"\n[source]\nkind = "path"\npath = "c"\n'
RECIPE_LINES = (
    *RECIPE.splitlines(),
    *(
        'kind = "pypi"',
        'package = "a"',
        'version = "1"',
        f'sha256 = "{"0" * 64}"',
        'member = "a/../b"',
        'member = "/a"',
    ),
    *("[build]", 'precision = "int4"', "[head]", 'file = "../a.safetensors"', 'name = "x"', "a = {b = 1e999}", "[[a]]"),
)
PIECES = b"\n\x0d\n\x05<unk>\x15\0\0\0\0\x18\2" + b"\n\x08\n\1a\x15\0\0\x80\xbf" + b"\x12\2\x18\2" + b"\x1a\2\x18\1"


def one_input(data: bytes) -> None:
    """Read one file of one kind."""
    choices = Choices(data)
    choices.pick(READERS)(choices)


def safetensors(choices: Choices) -> None:
    """Headers are JSON behind their length; what is not theirs is data."""
    if choices.byte() & 1:
        content = altered(TENSORS, choices)
    else:
        header = choices.object(("a", "b", "__metadata__", "dtype", "shape", "data_offsets", "F32", "BF16")).encode()
        length = choices.pick((len(header), 0, 2**20, 2**60, 2**64 - 1))
        content = struct.pack("<Q", length) + header + choices.rest()
    path = scratch.file("model.safetensors", content)
    try:
        for tensor in read_safetensors([path]).values():
            tensor.float32()
    except CheckpointError as error:
        assert str(path) in str(error)


def sentencepiece(choices: Choices) -> None:
    """A protocol buffer."""
    content = altered(PIECES, choices) if choices.byte() & 1 else choices.rest()
    path = scratch.file("tokenizer.model", content)
    try:
        read_sentencepiece(path)
    except CheckpointError as error:
        assert str(path) in str(error)


def tokenizer(choices: Choices) -> None:
    """The bundle's ``tokenizer.json``."""
    kind = choices.byte() % 3
    if kind == 0:
        content = choices.rest()
    elif kind == 1:
        content = altered(TOKENIZER.encode(), choices)
    else:
        part = choices.pick([*TOKENIZER_PARTS])
        hostile = f'"{part}": {choices.json(TOKENIZER_KEYS)}'
        content = json.dumps({**TOKENIZER_PARTS, part: 0}).replace(f'"{part}": 0', hostile).encode()
    path = scratch.file("tokenizer.json", content)
    try:
        codec = TextCodec.load(path.parent)
    except ValueError as error:
        assert str(path) in str(error)
        return
    codec.close()


def config(choices: Choices) -> None:
    """``config.json`` of a Hugging Face directory."""
    if choices.byte() & 1:
        text = choices.object(CONFIG_KEYS)
    else:
        sound = json.dumps(CONFIG | {"model_type": choices.pick([*FAMILIES])})[:-1]
        text = f"{sound},{choices.object(CONFIG_KEYS)[1:]}".replace(",}", "}")
    path = scratch.file("config.json", text.encode("utf-8", "surrogatepass"))
    try:
        architecture_from_config(read_json(path))
    except CheckpointError as error:
        assert str(error)


def index(choices: Choices) -> None:
    """The list of shards, none of which may lie elsewhere."""
    if choices.byte() & 1:
        text = choices.object(("weight_map", "a", "metadata"))
    else:
        text = json.dumps({"weight_map": {"a": choices.rest().decode("utf-8", "replace")}})
    folder = scratch.folder() / "sharded"
    folder.mkdir(exist_ok=True)
    (folder / INDEX).write_bytes(text.encode("utf-8", "surrogatepass"))
    (folder / "a.safetensors").touch()
    try:
        assert all(path.resolve().parent == folder.resolve() for path in weight_files(folder))
    except CheckpointError as error:
        assert str(folder) in str(error)


def generation_config(choices: Choices) -> None:
    """The model's sampling defaults: usable, whatever the file says."""
    text = choices.object(tuple(GenerationDefaults.__dataclass_fields__))
    defaults, _ = read_defaults(scratch.file("generation_config.json", text.encode("utf-8", "surrogatepass")))
    assert 0 <= defaults.temperature <= 1e30
    assert 0 < defaults.top_p <= 1
    assert -1 <= defaults.top_k < 2**31


def manifest(choices: Choices) -> None:
    """A bundle's manifest, and files that are not those in it."""
    kind = choices.byte() % 3
    if kind == 0:
        text = choices.object(MANIFEST_KEYS).encode("utf-8", "surrogatepass")
    elif kind == 1:
        text = altered(MANIFEST, choices)
    else:
        files = choices.json(("name", "size", "sha256"))
        text = MANIFEST.replace(b'"files":[', b'"files":' + files.encode("utf-8", "surrogatepass") + b',"x":[')
    path = scratch.file("manifest.json", text)
    try:
        open_bundle(path.parent)
    except BundleError as error:
        assert str(path.parent) in str(error)


def recipe(choices: Choices) -> None:
    """A recipe in TOML."""
    text = "\n".join(choices.pick(RECIPE_LINES) for _ in range(choices.byte() % 12))
    content = altered(text.encode(), choices) if choices.byte() & 1 else text.encode()
    path = scratch.file("recipe.toml", content)
    try:
        load_recipe(str(path))
    except BuildError as error:
        assert str(path) in str(error)


def altered(content: bytes, choices: Choices) -> bytes:
    """``content`` with some bytes changed, and perhaps cut."""
    changed = bytearray(content)
    for _ in range(choices.byte() % 4):
        place = choices.below(max(len(content), 1))
        change = choices.take(1 + choices.byte() % 8)
        changed[place : place + len(change)] = change
    return bytes(changed[: choices.below(len(changed) + 1)] if choices.byte() & 1 else changed)


READERS: tuple[Callable[[Choices], None], ...] = (
    *(safetensors, sentencepiece, tokenizer, config, index, generation_config, manifest, recipe),
)

SEEDS = [
    *(bytes([reader, kind]) for reader in range(len(READERS)) for kind in range(3)),
    b"\0\1\0\0",
    b"\1\0" + PIECES,
    b"\2\0" + TOKENIZER[:200].encode(),
    b"\4\0../../../etc/passwd.safetensors",
    b"\7\5\0\1\2\3\4\0",
]
