"""``--first_token_constraint_mode``: what every output may begin with, whoever asks for it."""

from __future__ import annotations

from dataclasses import replace

from runtime.request import OpeningState, SamplingParams
from server.errors import InvalidRequestError


def limit_first_token(params: SamplingParams, first_tokens: tuple[int, ...]) -> SamplingParams:
    """The same, with an output that begins with one of ``first_tokens``, if there are any.

    An output that follows a grammar begins as that says.

    Raises:
        InvalidRequestError: The request allows none of them.
    """
    if not first_tokens or params.constrained:
        return params
    ids = [token for token in first_tokens if not params.allowed_token_ids or token in params.allowed_token_ids]
    if not ids:
        message = f"allowed_token_ids has none of the tokens that outputs begin with here: {first_tokens}"
        raise InvalidRequestError(message, param="allowed_token_ids")
    return replace(params, opening=(OpeningState.of(ids),))
