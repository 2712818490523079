"""The ``stop_sequences`` field: one string, or strings and lists of token ids mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.environment import RequestRules
from server.errors import InvalidRequestError
from server.sampling_rules import check_token_ids

NAME = "stop_sequences"


@dataclass(frozen=True, slots=True)
class StopSequences:
    """What ends an output.

    Attributes:
        strings: Matched on the text.
        token_lists: Matched on the last token ids.
        skipped: Elements of other types were left out, as LightLLM does.
    """

    strings: tuple[str, ...]
    token_lists: tuple[tuple[int, ...], ...]
    skipped: bool


def parse_stop_sequences(value: str | list[Any] | None, rules: RequestRules, vocab_size: int) -> StopSequences:
    """Sort the elements by kind and check them.

    Raises:
        InvalidRequestError: Too many elements, or a token id out of the vocabulary.
    """
    items: list[Any] = [value] if isinstance(value, str) else value or []
    if len(items) > rules.max_stop_sequences:
        raise InvalidRequestError(
            f"{NAME} may have at most {rules.max_stop_sequences} items, not {len(items)}", param=NAME
        )
    strings = tuple(item for item in items if isinstance(item, str))
    lists = [item for item in items if isinstance(item, list) and all(type(i) is int for i in item)]
    for ids in lists:
        check_length(len(ids), rules)
        if ids and min(ids) < 0:
            raise InvalidRequestError(f"{NAME}: token id {min(ids)} is negative", param=NAME)
        check_token_ids(ids, NAME, vocab_size)
    return StopSequences(
        strings=tuple(s for s in strings if s),
        token_lists=tuple(tuple(ids) for ids in lists if ids),
        skipped=len(strings) + len(lists) < len(items),
    )


def check_length(tokens: int, rules: RequestRules) -> None:
    """Refuse a sequence of more tokens than the rules allow.

    Raises:
        InvalidRequestError: It is too long.
    """
    if tokens > rules.max_stop_sequence_length:
        raise InvalidRequestError(
            f"{NAME}: one has {tokens} tokens, more than {rules.max_stop_sequence_length}", param=NAME
        )
