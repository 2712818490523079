"""GGUF files, from bytes to tensors and a tokenizer, or to the one error that names the file."""

from __future__ import annotations

import struct

from fuzz import scratch
from fuzz.choices import Choices
from gguf_files import ARRAY, BOOL, F32, I32, STRING, TYPES, U8, U16, U32, U64, GgufFile, model_file

from build_engine.errors import CheckpointError
from build_engine.families import architecture_from_gguf
from build_engine.readers.gguf import open_gguf
from build_engine.readers.gguf_file import read_gguf
from build_engine.readers.gguf_tensors import GgufTensor
from build_engine.tokenizers.gguf import gguf_tokenizer

WHOLE, BOUNDARIES = model_file(num_layers=1).build()
HEADER = BOUNDARIES[-1]
MODEL = model_file(num_layers=1)
KINDS = (U8, U16, U32, I32, F32, BOOL, STRING, U64)
FAMILIES = ("llama", "qwen2", "qwen3", "phi3", "gemma2", "internlm2")
KEYS = [key for key, _, _ in MODEL.metadata] + [
    *(f"tokenizer.ggml.{name}" for name in ("scores", "unknown_token_id", "eot_token_id", "add_eos_token")),
    *("general.alignment", "split.no", "split.count", "tokenizer.chat_template", "llama.rope.scaling.type"),
    *("llama.rope.scaling.factor", "llama.rope.dimension_count", "llama.expert_count", "llama.vocab_size"),
]


def one_input(data: bytes) -> None:
    """Read one file."""
    choices = Choices(data)
    match choices.byte() % 4:
        case 0:
            read(choices.rest())
        case 1:
            read(altered(choices))
        case 2:
            read(made(choices))
        case 3:
            convert(choices)


def altered(choices: Choices) -> bytes:
    """A sound file's header with some bytes changed, and perhaps cut."""
    content = bytearray(WHOLE[: HEADER + 64])
    for _ in range(1 + choices.byte() % 4):
        place = choices.below(HEADER)
        change = choices.take(1 + choices.byte() % 8)
        content[place : place + len(change)] = change
    return bytes(content[: choices.below(len(content))] if choices.byte() & 1 else content)


def made(choices: Choices) -> bytes:
    """A file of a few entries and tensors, some of which lie."""
    entries = [(choices.pick(KEYS), *_value(choices)) for _ in range(choices.byte() % 6)]
    tensors = []
    for index in range(choices.byte() % 4):
        name = choices.pick(("output.weight", "token_embd.weight", "blk.0.attn_q.weight", f"x{index}"))
        shape = tuple(choices.pick((1, 2, 8, 32, 256, 2**31, 2**62)) for _ in range(choices.byte() % 6))
        tensors.append((name, shape, choices.pick([*TYPES.values(), 99]), choices.take(64)))
    file = GgufFile(metadata=entries, tensors=tensors, version=choices.pick((3, 2, 1, 1 << 24)))
    if choices.byte() & 1:
        file.tensor_count = choices.pick((0, 1, 2**16, 2**32, 2**60))
    if choices.byte() & 1:
        file.metadata_count = choices.pick((0, 1, 2**16, 2**32, 2**60))
    if choices.byte() & 1:
        file.offsets = {name: choices.pick((0, 1, 32, 2**40, 2**63)) for name, *_ in tensors}
    return file.build()[0]


def _value(choices: Choices) -> tuple[object, object]:
    kind = choices.pick(KINDS)
    if choices.byte() & 3:
        return kind, _scalar(choices, kind)
    return (ARRAY, kind), [_scalar(choices, kind) for _ in range(choices.byte() % 5)]


def _scalar(choices: Choices, kind: int) -> object:
    if kind == STRING:
        return choices.pick((choices.text(), "gpt2", "llama", "smollm", *FAMILIES))
    if kind == BOOL:
        return bool(choices.byte() & 1)
    if kind == F32:
        return struct.unpack("<f", choices.take(4).ljust(4, b"\0"))[0]
    width = {U8: 1, U16: 2, U32: 4, I32: 4, U64: 8}[kind]
    number = choices.pick((0, 1, 2, 8, 32, 64, 2**31 - 1, 2**32, 2**63, int.from_bytes(choices.take(3), "little")))
    return number % 2 ** (8 * width - (kind == I32))


def read(content: bytes) -> None:
    """Every tensor of a file that is taken lies in it."""
    path = scratch.file("model.gguf", content)
    try:
        file = read_gguf(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    assert all(0 < info.offset <= info.offset + info.size <= len(content) for info in file.tensors.values())
    for name, info in file.tensors.items():
        try:
            GgufTensor(name, info.shape, info.encoding.name, file, info).float32()
        except CheckpointError as error:
            assert "not finite" in str(error)
    try:
        open_gguf(path)
    except CheckpointError as error:
        assert str(path) in str(error)


def convert(choices: Choices) -> None:
    """Architecture and tokenizer of a sound model with some entries changed."""
    metadata = {key: value for key, _, value in MODEL.metadata}
    for _ in range(1 + choices.byte() % 4):
        metadata[choices.pick(KEYS)] = _value(choices)[1]
    shapes = {name: tuple(shape[::-1]) for name, shape, *_ in MODEL.tensors}
    for convert in (lambda: architecture_from_gguf(metadata, shapes), lambda: gguf_tokenizer(metadata)):
        try:
            convert()
        except CheckpointError as error:
            assert str(error)


SEEDS = [
    b"\0" + WHOLE[:64],
    b"\0" + MODEL.build()[0][: HEADER + 1],
    b"\1\0\0\0",
    b"\2\2\0\6\3\1\1\1\0\0\2\0\1\0\3",
    b"\3\1\2\0\1\1\5\1\1\0",
]
