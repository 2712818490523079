"""A checkpoint's vocabulary, whatever the file it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from build_engine.families.fields import Fields


class TokenType(IntEnum):
    """What a token is for: SentencePiece's ``SentencePiece.Type``, and GGUF's ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens and special ids.

    Attributes:
        types: One per token.
        scores: One per token; empty for byte-level vocabularies.
        merges: ``"left right"``, best first; empty for SentencePiece vocabularies.
        eos_ids: End of sequence, then end of turn where it differs.
        bos_id: -1 where there is none; likewise ``unknown_id``.
        fields: Other settings, under the keys of GGUF (``add_bos_token``, ``add_space_prefix``, ``pre``, ...).
        swallowing: Special tokens that take the white space after them along.
        special_ids: Id of each token that has a name (``bos_token``, ``eos_token``, ``pad_token``, ``unk_token``).
    """

    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    bos_id: int
    unknown_id: int
    eos_ids: tuple[int, ...]
    fields: Fields
    swallowing: tuple[int, ...] = ()
    special_ids: dict[str, int] = field(default_factory=dict)

    def ids_of(self, *types: TokenType) -> list[int]:
        """Ids of the tokens of ``types``, ascending."""
        return [index for index, kind in enumerate(self.types) if kind in types]

    @property
    def special_tokens(self) -> dict[str, str]:
        """Text of each token that has a name."""
        return {name: self.tokens[index] for name, index in self.special_ids.items()}
