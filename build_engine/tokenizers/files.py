"""What a bundle stores of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What a bundle stores of a tokenizer.

    Attributes:
        tokenizer_json: Complete ``tokenizer.json``.
        vocab_size: Ids are below this.
        chat_template: Jinja source, or ``None``.
        eos_token_ids: Ids that end a sample.
        bos_token_id: Beginning-of-sequence id, or -1.
        special_tokens: Texts of ``bos_token``, ``eos_token``, ``pad_token`` and ``unk_token``, as far as they exist.
    """

    tokenizer_json: bytes
    vocab_size: int
    chat_template: str | None
    eos_token_ids: tuple[int, ...]
    bos_token_id: int
    special_tokens: dict[str, str] = field(default_factory=dict)
