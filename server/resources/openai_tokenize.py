"""``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

import asyncio

import msgspec
from falcon.asgi import Request, Response
from msgspec import UNSET

from server.errors import InvalidRequestError
from server.openai.tokenize_types import DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest
from server.openai.tool_rules import check_tools
from server.parameters import decode
from server.resources.base import answer
from server.resources.openai import OpenAIResource
from server.sampling_rules import check_token_ids

_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)


class TokenizeResource(OpenAIResource):
    """``/tokenize``: the token ids of a text, or of a chat as the model's template renders it."""

    async def on_post(self, request: Request, response: Response) -> None:
        """Tokenize."""
        services = self._services()
        fields = decode(_TOKENIZE, await self._json(request))
        if (fields.prompt is None) == (fields.messages is None):
            raise InvalidRequestError("give either prompt or messages", "missing_field", "prompt")
        if fields.prompt is None:
            check_tools(fields.tools)
            text = await services.chat_parser.render(fields, fields.tools or [])
        else:
            text = fields.prompt
        special = fields.messages is None if fields.add_special_tokens is None else fields.add_special_tokens
        ids = await services.codec.encode(text, special)
        texts = services.token_texts.texts
        content = TokenizeAnswer(
            count=len(ids),
            max_model_len=services.client.limits.max_request_tokens,
            tokens=ids,
            token_strs=await asyncio.to_thread(texts, ids) if fields.return_token_strs else UNSET,
        )
        answer(response, content)


class DetokenizeResource(OpenAIResource):
    """``/detokenize``: the text of token ids."""

    async def on_post(self, request: Request, response: Response) -> None:
        """Detokenize."""
        services = self._services()
        fields = decode(_DETOKENIZE, await self._json(request))
        check_token_ids(fields.tokens, "tokens", services.client.limits.vocab_size)
        answer(response, DetokenizeAnswer(prompt=await services.codec.decode(fields.tokens)))
