"""``/tokens``."""

from __future__ import annotations

import msgspec
from falcon.asgi import Request, Response

from server.errors import InvalidRequestError
from server.native_types import TokenCount
from server.parameters import TokensBody, decode
from server.resources.base import Resource, answer
from server.validation import refuse_attachments

_TOKENS = msgspec.json.Decoder(TokensBody)


class TokensResource(Resource):
    """``/tokens``: the number of prompt tokens of a text."""

    async def on_post(self, request: Request, response: Response) -> None:
        """Count the tokens of the body's ``text``."""
        await self._count(await self._body(request), response)

    async def on_get(self, request: Request, response: Response) -> None:
        """The same; ``?text=`` stands in for the body that proxies like to drop."""
        body = await self._body(request)
        text = request.get_param("text")
        if not body and text is not None:
            body = msgspec.json.encode({"text": text})
        await self._count(body, response)

    async def _count(self, body: bytes, response: Response) -> None:
        try:
            parsed = decode(_TOKENS, body)
            refuse_attachments(parsed.multimodal_params)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"error: {error.message}", error.error_code, error.param) from None
        ids = await self._services().codec.encode(parsed.text, bool(parsed.parameters.add_special_tokens))
        answer(response, TokenCount(len(ids)))
