"""From the body of ``/v1/completions`` to requests that the engine can run."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from server.errors import InvalidRequestError
from server.openai.completion_types import CompletionRequest
from server.openai.request_builder import RequestBuilder
from server.parameters import decode
from server.sampling_rules import check_token_ids
from server.tasks import all_of
from server.validation import ValidRequest

DEFAULT_NEW_TOKENS = 16
MAX_PROMPTS = 1024
"""Prompts in one call."""

_REQUEST = msgspec.json.Decoder(CompletionRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall:
    """A parsed call.

    Attributes:
        fields: As they came.
        requests: One for each prompt.
        prompts: Texts to begin the outputs with; empty unless they are echoed.
        choices: Outputs of each prompt to hand out; the best, where more are generated.
        silent: Nothing is generated; what the engine does generate is left out.
    """

    fields: CompletionRequest
    requests: list[ValidRequest]
    prompts: list[str]
    choices: int = 1
    silent: bool = False


@dataclass(frozen=True, slots=True)
class CompletionParser:
    """The door of ``/v1/completions``."""

    builder: RequestBuilder

    async def parse(self, body: bytes) -> CompletionCall:
        """Parse a body.

        Raises:
            InvalidRequestError: Anything is wrong with it.
            UnavailableError: No engine has been reached yet.
        """
        fields = decode(_REQUEST, body)
        if fields.suffix:
            raise InvalidRequestError(
                "suffix is not supported: models here write on at the end", "unsupported", "suffix"
            )
        best_of = _best_of(fields)
        new_tokens, silent = _new_tokens(fields)
        stops = await self.builder.stops(fields)
        limits = self.builder.limits()
        # NOTE: more than may wait would never be taken, however often they are sent.
        prompts = listed_prompts(fields.prompt, max(1, min(MAX_PROMPTS, limits.max_queued)))
        tokens = await all_of(self._tokens(prompt, bool(fields.add_special_tokens)) for prompt in prompts)
        requests = []
        for ids in tokens:
            most = max(1, min(DEFAULT_NEW_TOKENS, limits.max_request_tokens - len(ids)))
            request = self.builder.build(
                "prompt",
                ids,
                fields,
                stops,
                max_new_tokens=most if new_tokens is None else new_tokens,
                samples=best_of,
                prompt_logprobs=bool(fields.echo) and fields.logprobs is not None,
                top_logprobs=fields.logprobs or 0,
            )
            requests.append(request)
        trios = zip(prompts, tokens, requests, strict=True) if fields.echo else ()
        echoed = await all_of(self._text(*trio) for trio in trios)
        return CompletionCall(fields=fields, requests=requests, prompts=echoed, choices=fields.samples, silent=silent)

    async def _tokens(self, prompt: str | list[int], add_special_tokens: bool) -> list[int]:
        if isinstance(prompt, str):
            return await self.builder.codec.encode(prompt, add_special_tokens)
        check_token_ids(prompt, "prompt", self.builder.limits().vocab_size)
        return prompt

    async def _text(self, prompt: str | list[int], tokens: list[int], request: ValidRequest) -> str:
        """The prompt as the engine sees it."""
        if isinstance(prompt, str) and len(tokens) == len(request.prompt):
            return prompt
        return await self.builder.codec.decode(request.prompt, request.skip_special_tokens)


def listed_prompts(prompt: str | list[str | int | list[int]], most: int) -> list[str | list[int]]:
    """Each prompt by itself. The first element of a list decides what all have to be.

    Raises:
        InvalidRequestError: The list is empty or mixed, or has more than ``most`` prompts.
    """
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequestError("prompt: the list is empty", "empty_prompt", "prompt")
    ids = [token for token in prompt if isinstance(token, int)]
    if len(ids) == len(prompt):
        return [ids]
    prompts = [one for one in prompt if isinstance(one, type(prompt[0])) and not isinstance(one, int)]
    if len(prompts) < len(prompt):
        message = "prompt: a list has to be of texts, of token ids, or of lists of token ids, and not mixed"
        raise InvalidRequestError(message, param="prompt")
    if len(prompts) > most:
        raise InvalidRequestError(f"prompt may be at most {most} prompts, not {len(prompts)}", param="prompt")
    return prompts


def _best_of(fields: CompletionRequest) -> int:
    best_of = fields.samples if fields.best_of is None else fields.best_of
    if best_of < fields.samples:
        raise InvalidRequestError(f"best_of must be at least n, which is {fields.samples}", param="best_of")
    if fields.stream and best_of > fields.samples:
        raise InvalidRequestError(
            "best_of must equal n in a stream: which ones are best is known last", param="best_of"
        )
    return best_of


def _new_tokens(fields: CompletionRequest) -> tuple[int | None, bool]:
    """Tokens to generate, ``None`` for the default, and whether they are left out."""
    if fields.max_tokens != 0:
        return fields.max_tokens, False
    if not fields.echo:
        raise InvalidRequestError("max_tokens of 0 needs echo: there is nothing else to answer", param="max_tokens")
    return 1, True
