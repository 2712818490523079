import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sentencepiece
from huggingface_files import write_directory, write_json
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece_files import PIECES, train, write_internlm2
from tiny import byte_tokenizer_json
from tokenizers import Tokenizer

from build_engine.errors import CheckpointError
from build_engine.sources import open_checkpoint
from build_engine.tokenizers.files import TokenizerFiles
from build_engine.tokenizers.huggingface import huggingface_tokenizer
from build_engine.tokenizers.sentencepiece_model import read_sentencepiece

TEXTS = [
    "The quick brown fox",
    "What is AI? I do not know what it is at all.",
    "  leading,   inner and trailing  ",
    "x=1234567;\n\n\tdef main(args):  # don't",
    "Grüße, 你好, Привет, مرحبا, नमस्ते",
    "👩‍👩‍👧 and 🎉",
    "thethethe sleepsleepsleep reasonsreasons",
    "",
]
SIZE = 512


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "dummy prefix"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return train(tmp_path_factory.mktemp("spm"), dummy_prefix=request.param)


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return train(tmp_path_factory.mktemp("spm"))


@pytest.fixture(scope="module")
def plain_file(plain_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spm") / "plain.model"
    path.write_bytes(plain_model)
    return path


def convert(folder: Path, model: bytes, **changes: Any) -> tuple[TokenizerFiles, Tokenizer]:
    files = huggingface_tokenizer(write_internlm2(folder, model, **changes), SIZE)
    return files, Tokenizer.from_str(files.tokenizer_json.decode())


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        huggingface_tokenizer(folder, SIZE)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_sentencepiece(tmp_path: Path, model: bytes, text: str) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    _, ours = convert(tmp_path, model)
    assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(tmp_path: Path, model: bytes, text: str) -> None:
    _, ours = convert(tmp_path, model)
    assert ours.decode(ours.encode(text).ids) == text


def test_added_tokens_take_the_places_of_spare_pieces(tmp_path: Path, plain_model: bytes) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=plain_model)
    files, ours = convert(tmp_path, plain_model)
    ids = ours.encode("<|im_start|>user\nhello<|im_end|>").ids
    assert ids[:2] == [1, theirs.piece_to_id("[UNUSED_TOKEN_1]")]
    assert ids[-1] == theirs.piece_to_id("[UNUSED_TOKEN_2]")
    assert ours.decode(ids) == "user\nhello"
    assert ours.get_vocab_size() == theirs.get_piece_size() <= PIECES
    assert files.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    assert (files.bos_token_id, files.eos_token_ids) == (1, (2,))
    assert files.chat_template == "{{ bos_token }}{{ messages }}"


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({}, [1]),
        ({"add_bos_token": False}, []),
        ({"add_eos_token": True}, [1, 2]),
        ({"add_bos_token": None, "eos_token": {"content": "<|im_end|>"}}, [1]),
    ],
)
def test_texts_begin_and_end_as_the_settings_ask(
    tmp_path: Path, plain_model: bytes, changes: dict[str, Any], ids: list[int]
) -> None:
    assert convert(tmp_path, plain_model, **changes)[1].encode("").ids == ids


def test_settings_that_say_nothing_have_the_defaults_of_the_published_class(tmp_path: Path, plain_model: bytes) -> None:
    nothing = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token", "chat_template"), ...)
    files, ours = convert(tmp_path, plain_model, **nothing, added_tokens_decoder=...)
    assert ours.encode("").ids == [1]
    assert files.special_tokens["pad_token"] == "</s>"
    assert files.chat_template is None


def test_tokens_may_be_added_after_the_pieces_as_far_as_the_model_has_embeddings(
    tmp_path: Path, plain_model: bytes
) -> None:
    size = sentencepiece.SentencePieceProcessor(model_proto=plain_model).get_piece_size()
    added = {str(size): {"content": "<a>"}, str(size + 1): {"content": "<b>"}, str(SIZE): {"content": "<beyond>"}}
    _, ours = convert(tmp_path, plain_model, added_tokens_decoder=added)
    assert ours.encode("<b><a>", add_special_tokens=False).ids == [size + 1, size]
    assert ours.token_to_id("<beyond>") is None


def test_a_template_in_a_file_of_its_own_counts(tmp_path: Path, plain_model: bytes) -> None:
    write_internlm2(tmp_path, plain_model)
    (tmp_path / "chat_template.jinja").write_text("{{ other }}")
    assert huggingface_tokenizer(tmp_path, SIZE).chat_template == "{{ other }}"


def test_a_ready_tokenizer_goes_before(tmp_path: Path, plain_model: bytes) -> None:
    write_internlm2(tmp_path, plain_model, added_tokens_decoder=...)
    (tmp_path / "tokenizer.json").write_bytes(byte_tokenizer_json())
    files = huggingface_tokenizer(tmp_path, SIZE)
    assert json.loads(files.tokenizer_json)["model"]["vocab"]["<|im_end|>"] == 3


def test_a_whole_directory_is_read_without_running_its_code(
    tmp_path: Path, plain_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    folder = write_directory(tmp_path / "model", "internlm2", options={"vocab_size": SIZE}, vocab_size=SIZE)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenization_internlm2.py").write_text("raise SystemExit('ran')\n")
    checkpoint = open_checkpoint(write_internlm2(folder, plain_model))
    assert checkpoint.special_tokens["bos_token"] == "<s>"
    assert Tokenizer.from_str(checkpoint.tokenizer_json.decode()).encode("").ids == [1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "added_tokens_decoder has the unusable entry 'x'"),
        ({"added_tokens_decoder": {"9" * 5000: {"content": "a"}}}, "added_tokens_decoder has the unusable entry '999"),
        ({"added_tokens_decoder": {"5": "a"}}, "added_tokens_decoder has the unusable entry '5'"),
        ({"added_tokens_decoder": {"500": {"content": "a"}}}, "added token 500 comes after"),
        ({"added_tokens_decoder": {"5": {"content": "<s>"}}}, "1 tokens are in the vocabulary twice"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder is [1]"),
        ({"bos_token": "<none>"}, "bos_token '<none>' is not one of"),
        ({"bos_token": ["<s>"]}, "bos_token ['<s>'] is not one of"),
        ({"bos_token": None}, "add_bos_token is set, but the file names no such token"),
        ({"add_bos_token": "yes"}, "add_bos_token is 'yes'"),
        ({"chat_template": 5}, "chat_template is 5"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_key(
    tmp_path: Path, plain_model: bytes, changes: dict[str, Any], said: str
) -> None:
    message = refused(write_internlm2(tmp_path, plain_model, **changes))
    assert f"{tmp_path / 'tokenizer_config.json'}: {said}" in message


def test_models_that_cannot_be_used_are_refused(tmp_path: Path, plain_model: bytes) -> None:
    write_internlm2(tmp_path, plain_model)
    path = tmp_path / "tokenizer.model"
    for content, said in (
        (b"no protobuf", "is not a SentencePiece model"),
        (plain_model[:-3], "is not a SentencePiece model"),
        (b"", "is not a BPE model"),
        (train(tmp_path, kind="unigram", pieces=350), "is not a BPE model"),
    ):
        path.write_bytes(content)
        assert f"{path}: {said}" in refused(tmp_path)
    path.write_bytes(plain_model)
    with pytest.raises(CheckpointError, match="tokens, the model only 300 embeddings"):
        huggingface_tokenizer(tmp_path, 300)
    path.unlink()
    write_json(tmp_path / "config.json", {"model_type": "internlm2"})
    with pytest.raises(CheckpointError, match=r"tokenizer\.model: cannot be read"):
        read_sentencepiece(path)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), width=st.sampled_from([1, 4]))
def test_a_model_with_altered_bytes_loads_or_is_refused_with_one_error(
    plain_file: Path, place: float, value: int, width: int
) -> None:
    model = plain_file.read_bytes()
    position = int(place * len(model))
    with TemporaryDirectory() as name:
        folder = write_internlm2(Path(name), model)
        altered = model[:position] + bytes([value]) * width + model[position + width :]
        (folder / "tokenizer.model").write_bytes(altered)
        error = outcome(folder)
        assert error is None or name in error


def outcome(folder: Path) -> str | None:
    """The refusal, or ``None`` if there is a tokenizer."""
    try:
        huggingface_tokenizer(folder, SIZE)
    except CheckpointError as error:
        return str(error)
    return None
