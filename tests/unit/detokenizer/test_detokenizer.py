"""Incremental detokenization against the tokenizer's own decode of the whole list."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from runtime.detokenizer import MAX_PENDING, REPLACEMENT, IncrementalDetokenizer, SampleText, StopStrings

EOS = "<eos>"


def byte_level() -> Tokenizer:
    """256 byte tokens plus a few merges and one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(alphabet)}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(EOS, special=True)])
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """Byte fallback and a metaspace decoder, as Llama 2 has them."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for token in ("▁", "▁What", "▁is", "AI", "?"):
        vocab[token] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


BYTES = byte_level()
PIECES = sentencepiece_like()
EOS_ID = BYTES.token_to_id(EOS)


def pieces_of(detokenizer: IncrementalDetokenizer, ids: list[int]) -> list[str]:
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@given(st.text())
def test_whole_text_never_shows_a_broken_character_on_the_way(text: str) -> None:
    text = text.replace(REPLACEMENT, "")
    pieces = pieces_of(IncrementalDetokenizer(BYTES), BYTES.encode(text).ids)
    assert REPLACEMENT not in "".join(pieces)
    assert "".join(pieces) == text


@given(st.text(), st.text())
def test_the_prompt_does_not_leak_into_the_text(prompt: str, text: str) -> None:
    context = BYTES.encode(prompt).ids[-5:]
    assert "".join(pieces_of(IncrementalDetokenizer(BYTES, context), BYTES.encode(text).ids)) == text


@settings(max_examples=300)
@given(st.lists(st.integers(0, BYTES.get_vocab_size() - 1), max_size=80))
def test_any_ids_add_up_to_the_decode_of_all(ids: list[int]) -> None:
    assert "".join(pieces_of(IncrementalDetokenizer(BYTES), ids)) == BYTES.decode(ids)


@given(st.lists(st.integers(0x80, 0xFF), min_size=40, max_size=60))
def test_a_long_run_of_broken_bytes_is_neither_held_forever_nor_lost(raw: list[int]) -> None:
    alphabet = BYTES.encode("".join(map(chr, raw))).ids  # two bytes a character; only odd ones make garbage
    ids = alphabet[1::2]
    detokenizer = IncrementalDetokenizer(BYTES)
    held = [detokenizer._pending for i in ids if detokenizer.push(i) is not None]
    assert max(held) <= MAX_PENDING


def test_a_character_arrives_with_the_last_of_its_tokens() -> None:
    ids = BYTES.encode("é😀").ids
    assert [len(ids), *pieces_of(IncrementalDetokenizer(BYTES), ids)] == [6, "", "é", "", "", "", "😀", ""]


def test_an_incomplete_character_comes_out_at_the_end() -> None:
    detokenizer = IncrementalDetokenizer(BYTES)
    assert [detokenizer.push(i) for i in BYTES.encode("😀").ids[:3]] == ["", "", ""]
    assert detokenizer.flush() == REPLACEMENT
    assert detokenizer.flush() == ""


def test_output_completes_a_character_that_the_prompt_began() -> None:
    ids = BYTES.encode("a😀b").ids
    assert "".join(pieces_of(IncrementalDetokenizer(BYTES, ids[:3]), ids[3:])) == "😀b"


def test_a_context_cut_inside_a_character_is_harmless() -> None:
    ids = BYTES.encode("中hello").ids
    assert "".join(pieces_of(IncrementalDetokenizer(BYTES, ids[1:]), BYTES.encode(" there").ids)) == " there"


def test_a_leading_space_depends_on_the_context() -> None:
    what, is_ = PIECES.token_to_id("▁What"), PIECES.token_to_id("▁is")
    assert pieces_of(IncrementalDetokenizer(PIECES, [what]), [is_]) == [" is", ""]
    assert pieces_of(IncrementalDetokenizer(PIECES), [what, is_]) == ["What", " is", ""]


def test_byte_fallback_characters_stay_whole_across_windows() -> None:
    ids = [*"😀中é".encode(), PIECES.token_to_id("AI"), *"中".encode()]
    pieces = pieces_of(IncrementalDetokenizer(PIECES), ids)
    assert "".join(pieces) == "😀中éAI中"
    assert REPLACEMENT not in "".join(pieces)


def test_endless_skipped_tokens_do_not_grow_the_window() -> None:
    detokenizer = IncrementalDetokenizer(BYTES, BYTES.encode("hello").ids)
    for _ in range(1000):
        assert detokenizer.push(EOS_ID) == ""
        assert len(detokenizer._ids) <= MAX_PENDING + 2
    assert detokenizer.push(BYTES.token_to_id("x")) == "x"


def test_a_character_is_whole_however_many_skipped_tokens_are_inside() -> None:
    first, *rest = BYTES.encode("😀").ids
    detokenizer = IncrementalDetokenizer(BYTES)
    text = "".join(map(detokenizer.push, [first, *[EOS_ID] * 50, *rest]))
    assert text == "😀"


@pytest.mark.parametrize("cuts", [[1, 2], [3], [1, 1, 1]])
def test_a_stop_string_is_found_wherever_pieces_are_cut(cuts: list[int]) -> None:
    stops, text = StopStrings(["stop", ""]), "now stop"
    edges = [0, *(len("now ") + sum(cuts[: i + 1]) for i in range(len(cuts))), len(text)]
    found = [stops.found_in(text[a:b]) for a, b in pairwise(edges)]
    assert found == [*[False] * (len(edges) - 2), True]


@given(st.text(alphabet="ab", max_size=30), st.text(alphabet="ab", min_size=1, max_size=4))
def test_stop_strings_are_found_at_the_earliest_piece(text: str, stop: str) -> None:
    stops = StopStrings([stop])
    first = next((i for i in range(len(text)) if stops.found_in(text[i])), None)
    expected = text.find(stop)
    assert first == (None if expected < 0 else expected + len(stop) - 1)


def test_eos_has_no_text_unless_asked_for() -> None:
    quiet = SampleText(BYTES, [], eos_token_ids=[EOS_ID], skip_special_tokens=False)
    loud = SampleText(BYTES, [], eos_token_ids=[EOS_ID], skip_special_tokens=False, print_eos_token=True)
    assert quiet.push(EOS_ID, last=True) == ""
    assert loud.push(EOS_ID, last=True) == EOS


def test_special_tokens_are_skipped_or_shown() -> None:
    assert SampleText(BYTES, []).push(EOS_ID, last=False) == ""
    assert SampleText(BYTES, [], skip_special_tokens=False).push(EOS_ID, last=False) == EOS


def test_a_stop_string_ends_the_sample_and_stays_in_its_text() -> None:
    sample = SampleText(BYTES, [], stop_strings=["lo t"])
    texts = []
    for token_id in BYTES.encode("hello there").ids:
        texts.append(sample.push(token_id, last=False))
        if sample.stopped:
            break
    assert "".join(texts) == "hello t"


def test_the_last_token_brings_the_held_back_text() -> None:
    sample = SampleText(BYTES, [])
    first, second = BYTES.encode("é").ids
    assert sample.push(first, last=True) == REPLACEMENT
    assert SampleText(BYTES, []).push(second, last=False) == ""


@pytest.mark.parametrize("again", ["hello", "h e l l o", "he ll o", "hello p", "h e ll o p"])
def test_what_was_taken_back_is_not_handed_out_again(again: str) -> None:
    taken_back = [BYTES.token_to_id("hell"), BYTES.token_to_id("o")]
    sample = SampleText(BYTES, BYTES.encode("x").ids, stop_strings=["hello", "p!"], taken_back=taken_back)
    texts = [sample.push(BYTES.token_to_id(piece), last=False) for piece in [*again.split(), "y", "p", "!"]]
    assert "".join(texts) == ("p" if again.endswith("p") else "") + "yp!"
    assert sample.stopped, "only what is handed out is searched for stop strings"


def test_a_character_that_was_cut_by_taking_back_is_whole_again() -> None:
    first, second = BYTES.encode("é").ids
    sample = SampleText(BYTES, [*BYTES.encode("x").ids, first], taken_back=[second])
    assert [sample.push(second, last=False), sample.push(BYTES.token_to_id("y"), last=False)] == ["", "y"]
    sample = SampleText(BYTES, BYTES.encode("x").ids, taken_back=[first])
    assert [sample.push(first, last=False), sample.push(second, last=False)] == ["", "é"]
