import pytest
from tokenizers import Tokenizer

from build_engine.checkpoint import Checkpoint
from build_engine.sources import resolve_source

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve_source("smollm2-135m-instruct").open()


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    return Tokenizer.from_str(checkpoint.tokenizer_json.decode())


@pytest.mark.parametrize(("text", "count"), [("What is AI?", 4), ("1234567", 7)])
def test_texts_have_as_many_tokens_as_the_model_was_trained_with(tokenizer: Tokenizer, text: str, count: int) -> None:
    assert len(tokenizer.encode(text).ids) == count


@pytest.mark.parametrize(
    "text", ["Grüße, 世界! مرحبا, привет", "👩‍👩‍👧 🎉  two  spaces\n\n\ttab", "<|im_start|>user\nhi<|im_end|>\n"]
)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_chat_template_and_special_ids_are_there(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    assert checkpoint.chat_template is not None
    assert "<|im_start|>" in checkpoint.chat_template
    assert checkpoint.eos_token_ids == (2,)
    assert tokenizer.id_to_token(2) == "<|im_end|>"
    assert tokenizer.encode("<|im_end|>").ids == [2]
