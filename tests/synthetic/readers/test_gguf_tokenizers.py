import itertools
import math
from typing import Any

import pytest
from gguf_files import ARRAY, BOOL, F32, I32, STRING, U32, tokenizer_metadata
from tokenizers import Tokenizer

from build_engine.errors import CheckpointError
from build_engine.tokenizers.gguf import gguf_tokenizer

TEXTS = [
    "What is AI?",
    "  leading, trailing  ",
    "Grüße, 你好, Привет, مرحبا, नमस्ते",
    "👩‍👩‍👧 and 🎉\n\n\ttabs\r\n",
    "x=1234567;  # don't",
    "",
]
SPACE = "\u2581"


def byte_level(**changes: Any) -> Tokenizer:
    metadata = {key: value for key, _, value in tokenizer_metadata(**changes)}
    return Tokenizer.from_str(gguf_tokenizer(metadata).tokenizer_json.decode())


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("pre", ["default", "gpt-2", "smollm", "llama-bpe", "llama3", "dbrx", "gpt-4o"])
@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_text_comes_back(pre: str, text: str) -> None:
    tokenizer = byte_level(pre=(STRING, pre))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_qwen2_normalises_text_before_it_splits() -> None:
    tokenizer = byte_level(pre=(STRING, "qwen2"))
    assert tokenizer.encode("u\u0308").ids == tokenizer.encode("\u00fc").ids


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["a", "Ġ1234567", "Ġb"]),
        ("smollm", ["a", "Ġ", "1", "2", "3", "4", "5", "6", "7", "Ġb"]),
        ("llama-bpe", ["a", "Ġ", "123", "456", "7", "Ġb"]),
        ("dbrx", ["a", "Ġ", "123", "456", "7", "Ġb"]),
        ("gpt-4o", ["a", "Ġ", "123", "456", "7", "Ġb"]),
        ("qwen2", ["a", "Ġ", "1", "2", "3", "4", "5", "6", "7", "Ġb"]),
    ],
)
def test_digits_are_split_as_each_model_was_trained(pre: str, expected: list[str]) -> None:
    assert pieces(byte_level(pre=(STRING, pre)), "a 1234567 b") == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ((ARRAY, STRING), ["gpt2"])}, "tokenizer.ggml.model is ['gpt2']"),
        ({"model": (STRING, "bert")}, "tokenizer.ggml.model is 'bert'"),
        ({"pre": ((ARRAY, STRING), ["smollm"])}, "tokenizer.ggml.pre is ['smollm']"),
    ],
)
def test_kinds_that_are_not_known_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        byte_level(**changes)
    assert said in str(caught.value)


def test_a_beginning_token_that_a_template_cannot_hold_is_refused() -> None:
    tokens = {key: value for key, _, value in tokenizer_metadata()}["tokenizer.ggml.tokens"]
    with pytest.raises(CheckpointError, match="cannot be put around a text"):
        byte_level(tokens=((ARRAY, STRING), ["a:b c", *tokens[1:]]), add_bos_token=(BOOL, True))


def test_merges_are_applied_in_their_order() -> None:
    tokenizer = byte_level()
    assert tokenizer.encode("the the").tokens == ["t", "he", "Ġt", "he"]


def test_o200k_splits_where_capitals_begin_and_keeps_contractions() -> None:
    tokenizer = byte_level(pre=(STRING, "gpt-4o"))
    assert pieces(tokenizer, "camelCase DON'T it's ok/\n") == ["camel", "Case", "ĠDON'T", "Ġit's", "Ġok", "/Ċ"]


def test_control_tokens_are_special_and_user_defined_ones_are_not() -> None:
    tokenizer = byte_level(token_type=((ARRAY, I32), [3, 3, 3, 4] + [1] * 258))
    ids = tokenizer.encode("<|im_start|>a<|im_end|>").ids
    assert (ids[0], ids[-1]) == (2, 3)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<|im_end|>"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>a<|im_end|>"


@pytest.mark.parametrize(
    ("bos", "eos", "first", "last"), [(True, False, 0, None), (False, True, None, 1), (True, True, 0, 1)]
)
def test_texts_begin_and_end_as_the_file_asks(bos: bool, eos: bool, first: int | None, last: int | None) -> None:
    tokenizer = byte_level(add_bos_token=(BOOL, bos), add_eos_token=(BOOL, eos))
    plain = byte_level().encode("ab").ids
    expected = [token for token in [first, *plain, last] if token is not None]
    assert tokenizer.encode("ab").ids == expected
    assert tokenizer.encode("ab", add_special_tokens=False).ids == plain


def test_llama3_files_that_say_nothing_begin_with_bos() -> None:
    assert byte_level(pre=(STRING, "llama-bpe"), add_bos_token=(None, None)).encode("a").ids[0] == 0
    assert byte_level(add_bos_token=(None, None)).encode("a").ids[0] != 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": (STRING, "bert")}, "'bert'; supported are gpt2, llama"),
        (
            {"pre": (STRING, "tekken")},
            "'tekken'; supported are default, gpt-2, smollm, llama-bpe, llama3, dbrx, gpt-4o, qwen2",
        ),
        ({"tokens": (None, None)}, "tokens is missing"),
        ({"tokens": ((ARRAY, U32), [1, 2])}, "list of str"),
        ({"tokens": ((ARRAY, STRING), ["a", "a"])}, "1 tokens twice"),
        ({"token_type": ((ARRAY, I32), [1])}, "token_type has 1 entries for 262 tokens"),
        ({"merges": (None, None)}, "merges is missing"),
        ({"merges": ((ARRAY, STRING), ["h e", "zz y"])}, "merge 'zz y'"),
        ({"merges": ((ARRAY, STRING), ["he"])}, "merge 'he'"),
        ({"eos_token_id": (U32, 262)}, "eos_token_id is 262"),
        ({"bos_token_id": (None, None), "add_bos_token": (BOOL, True)}, "add_bos_token is set"),
        ({"model": (STRING, "llama")}, "scores is missing"),
        ({"model": (STRING, "llama"), "scores": ((ARRAY, F32), [0.0] * 262)}, "byte tokens <0x00> to <0xFF>"),
    ],
)
def test_sections_that_contradict_themselves_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        byte_level(**changes)
    assert said in str(caught.value)


PIECES = {
    "he": -1.0,
    "ll": -2.0,
    "llo": -3.5,
    f"{SPACE}he": -2.5,
    "lo": -3.0,
    f"{SPACE}w": -4.0,
    "or": -5.0,
    "ld": -6.0,
}
LETTERS = [SPACE, *"helowrd"]


def sentencepiece_metadata(**changes: Any) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, *LETTERS, "<|end|>"]
    types = [2, 3, 3, *[6] * 256, *[1] * (len(PIECES) + len(LETTERS)), 3]
    scores = [0.0] * 259 + list(PIECES.values()) + [-10.0 - index for index in range(len(LETTERS))] + [0.0]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    } | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def sentencepiece(**changes: Any) -> Tokenizer:
    return Tokenizer.from_str(gguf_tokenizer(sentencepiece_metadata(**changes)).tokenizer_json.decode())


def plain_sentencepiece(text: str) -> list[str]:
    """SentencePiece's BPE: join the adjacent pair whose result scores best, leftmost first, until none is a piece."""
    symbols = list(SPACE + text.replace(" ", SPACE))
    while True:
        scored = [
            (PIECES.get(left + right, -math.inf), -i) for i, (left, right) in enumerate(itertools.pairwise(symbols))
        ]
        best, place = max(scored, default=(-math.inf, 0))
        if best == -math.inf:
            return symbols
        symbols[-place : 2 - place] = [symbols[-place] + symbols[1 - place]]


@pytest.mark.parametrize("text", ["hello world", "hellhello", "world  hello", "lollo w", "h", "lllooo he he"])
def test_scores_rank_merges_as_sentencepiece_does(text: str) -> None:
    assert sentencepiece().encode(text, add_special_tokens=False).tokens == plain_sentencepiece(text)


def test_merges_are_those_of_transformers() -> None:
    generate_merges = pytest.importorskip("transformers.convert_slow_tokenizer").generate_merges
    metadata = sentencepiece_metadata()
    tokens, scores = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"]
    ids = {token: index for index, token in enumerate(tokens)}
    from build_engine.tokenizers.gguf_vocabulary import read_vocabulary
    from build_engine.tokenizers.sentencepiece import merges_from_scores

    expected = generate_merges(ids, dict(zip(tokens, scores, strict=True)))
    assert merges_from_scores(read_vocabulary(metadata), ids) == expected


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_unknown_characters_fall_back_to_bytes_and_come_back(text: str) -> None:
    tokenizer = sentencepiece()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert 0 not in tokenizer.encode(text).ids


def test_sentencepiece_files_begin_with_bos_unless_told_otherwise() -> None:
    assert sentencepiece().encode("hello").ids[0] == 1
    assert sentencepiece(add_bos_token=False).encode("hello").ids[0] != 1


def test_the_leading_space_can_be_turned_off() -> None:
    assert sentencepiece(add_space_prefix=False).encode("hello", add_special_tokens=False).tokens == ["he", "llo"]
    assert sentencepiece().encode("hello", add_special_tokens=False).tokens == [f"{SPACE}he", "llo"]


def test_sentencepiece_special_tokens_are_matched_whole() -> None:
    ids = sentencepiece().encode("hello<|end|>", add_special_tokens=False).ids
    assert ids[-1] == 259 + len(PIECES) + len(LETTERS)


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_an_end_of_turn_that_the_file_does_not_name_is_found_by_its_text_for_chat_models(kind: int) -> None:
    metadata = sentencepiece_metadata()
    metadata["tokenizer.ggml.token_type"][-1] = kind
    assert gguf_tokenizer(metadata).eos_token_ids == (2,)
    chat = metadata | {"tokenizer.chat_template": "{{ messages }}"}
    end = len(metadata["tokenizer.ggml.tokens"]) - 1
    found = gguf_tokenizer(chat)
    assert found.eos_token_ids == (2, end)
    tokenizer = Tokenizer.from_str(found.tokenizer_json.decode())
    assert tokenizer.encode("hello<|end|>").ids[-1] == end
    assert tokenizer.decode([end], skip_special_tokens=True) == ""
    assert gguf_tokenizer(chat | {"tokenizer.ggml.eot_token_id": 1}).eos_token_ids == (2, 1)


def test_phi3_special_tokens_take_the_white_space_after_them_along() -> None:
    texts = ("<|end|>\n hello", "<s> hello")
    plain = [sentencepiece().encode(text, add_special_tokens=False).ids for text in texts]
    phi3 = gguf_tokenizer(sentencepiece_metadata() | {"general.architecture": "phi3"})
    tokenizer = Tokenizer.from_str(phi3.tokenizer_json.decode())
    swallowed = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert swallowed[0] == sentencepiece().encode("<|end|>hello", add_special_tokens=False).ids != plain[0]
    assert swallowed[1] == plain[1]
