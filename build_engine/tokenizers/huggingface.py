"""The tokenizer of a Hugging Face directory, as transformers' ``AutoTokenizer`` would load it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from build_engine.errors import BuildError, CheckpointError
from build_engine.tokenizers.files import TokenizerFiles


def huggingface_tokenizer(directory: Path) -> TokenizerFiles:
    """Load the tokenizer of ``directory`` with transformers and take its fast backend.

    Going through transformers rather than copying ``tokenizer.json`` keeps what ``tokenizer_config.json`` changes
    (``add_bos_token``, added tokens), and so gives the ids that LightLLM gives.

    Raises:
        CheckpointError: There is no tokenizer, it needs code of its own, or it has no fast backend.
        BuildError: transformers is not installed.
    """
    tokenizer = _load(directory)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"{directory}: the tokenizer ({type(tokenizer).__name__}) has no fast backend")
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    return TokenizerFiles(
        tokenizer_json=backend.to_str().encode(),
        vocab_size=1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1),
        chat_template=template or None,
        eos_token_ids=() if eos is None else (int(eos),),
        bos_token_id=-1 if bos is None else int(bos),
    )


def _load(directory: Path) -> Any:
    # NOTE: without this, importing transformers where torch is absent writes an advice to standard error.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise BuildError(
            "Hugging Face directories need transformers; install it with: pip install 'peregrine-llm[build]'"
        ) from None
    try:
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its tokenizer classes raise
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{directory}: the tokenizer cannot be loaded: {reason[0] if reason else error!r}"
        ) from None
