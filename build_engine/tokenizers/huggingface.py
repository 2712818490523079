"""The tokenizer of a Hugging Face directory, as transformers' ``AutoTokenizer`` would load it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from build_engine.errors import BuildError, CheckpointError
from build_engine.tokenizers.files import TokenizerFiles
from build_engine.tokenizers.internlm2 import internlm2_tokenizer, is_internlm2


def huggingface_tokenizer(directory: Path, vocab_size: int) -> TokenizerFiles:
    """Load the tokenizer of ``directory`` with transformers and take its fast backend.

    Going through transformers rather than copying ``tokenizer.json`` keeps what ``tokenizer_config.json`` changes
    (``add_bos_token``, added tokens), and so gives the ids that LightLLM gives. Added tokens beyond the model's
    embeddings are left out: transformers invents some for its own defaults, and none of them could be computed.

    InternLM2's tokenizer is code in its own directory, which is never run, so it is converted here, unless there is a
    ``tokenizer.json`` as well.

    Args:
        directory: Holds the tokenizer's files.
        vocab_size: Embeddings of the model.

    Raises:
        CheckpointError: There is no tokenizer, it needs code of its own, has no fast backend, or its own vocabulary is
            larger than the model's.
        BuildError: transformers is not installed.
    """
    try:
        coded = is_internlm2(directory)
        if coded and not (directory / "tokenizer.json").is_file():
            return internlm2_tokenizer(directory, vocab_size)
        return _convert(directory, _load(directory, ready=coded), vocab_size)
    except BaseException as error:
        # NOTE: a panic of the Rust library is no Exception, and its class cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{directory}: the tokenizer is corrupt: {_first_line(error)}") from None


def _convert(directory: Path, tokenizer: Any, vocab_size: int) -> TokenizerFiles:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"{directory}: the tokenizer ({type(tokenizer).__name__}) has no fast backend")
    size = 1 + max(backend.get_vocab(with_added_tokens=False).values(), default=-1)
    if size > vocab_size:
        raise CheckpointError(f"{directory}: the tokenizer has {size} tokens, the model only {vocab_size} embeddings")
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"{directory}: the chat template is not a text")
    tokenizer_json = _within(backend.to_str(), vocab_size)
    if max(Tokenizer.from_str(tokenizer_json.decode()).encode("a").ids, default=0) >= vocab_size:
        raise CheckpointError(f"{directory}: the tokenizer puts ids around a text that the model does not have")
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    return TokenizerFiles(
        tokenizer_json=tokenizer_json,
        vocab_size=vocab_size,
        chat_template=template or None,
        eos_token_ids=() if eos is None or eos >= vocab_size else (int(eos),),
        bos_token_id=-1 if bos is None or bos >= vocab_size else int(bos),
        special_tokens=_special_tokens(tokenizer, vocab_size),
    )


def _special_tokens(tokenizer: Any, vocab_size: int) -> dict[str, str]:
    """Texts that chat templates ask for by name, of tokens that the model has."""
    found: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        text, token = getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")
        if text is not None and token is not None and token < vocab_size:
            found[name] = str(text)
    return found


def _within(tokenizer_json: str, vocab_size: int) -> bytes:
    """``tokenizer_json`` without the added tokens whose ids are ``vocab_size`` or more."""
    contents = json.loads(tokenizer_json)
    kept = [token for token in contents["added_tokens"] if token["id"] < vocab_size]
    if len(kept) == len(contents["added_tokens"]):
        return tokenizer_json.encode()
    return json.dumps(contents | {"added_tokens": kept}, ensure_ascii=False).encode()


def _load(directory: Path, *, ready: bool) -> Any:
    """The tokenizer as transformers loads it; from ``tokenizer.json`` alone, whatever class is named, if ``ready``."""
    # NOTE: without this, importing transformers where torch is absent writes an advice to standard error.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast
    except ImportError:
        raise BuildError(
            "Hugging Face directories need transformers; install it with: pip install 'peregrine-llm[build]'"
        ) from None
    try:
        if ready:
            return PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its tokenizer classes raise
        raise CheckpointError(f"{directory}: the tokenizer cannot be loaded: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))
