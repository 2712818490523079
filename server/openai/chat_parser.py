"""From the body of ``/v1/chat/completions`` to a request that the engine can run."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from server.chat_template import ChatTemplate
from server.errors import InvalidRequestError
from server.openai.chat_messages import NAME, template_messages, template_tools
from server.openai.chat_types import ChatRequest
from server.openai.constraints import check_tool_choice
from server.openai.request_builder import RequestBuilder
from server.parameters import decode
from server.validation import ValidRequest

_REQUEST = msgspec.json.Decoder(ChatRequest)

_NOT_SUPPORTED = ("continue_final_message", "functions", "audio", "web_search_options")


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A parsed call; ``fields`` are as they came."""

    fields: ChatRequest
    request: ValidRequest


@dataclass(frozen=True, slots=True)
class ChatParser:
    """The door of ``/v1/chat/completions``."""

    builder: RequestBuilder
    template: ChatTemplate

    async def parse(self, body: bytes) -> ChatCall:
        """Parse a body.

        Raises:
            InvalidRequestError: Anything is wrong with it.
            UnavailableError: No engine has been reached yet, or too many chats are being rendered.
        """
        fields = decode(_REQUEST, body)
        _check(fields)
        stops = await self.builder.stops(fields)
        text = await self._render(fields)
        # NOTE: templates write the special tokens themselves; what they leave out, the model was trained without.
        ids = await self.builder.codec.encode(text, bool(fields.add_special_tokens))
        new_tokens = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
        if new_tokens == 0:
            raise InvalidRequestError("max_completion_tokens must be at least 1", param="max_completion_tokens")
        request = self.builder.build(
            NAME,
            ids,
            fields,
            stops,
            max_new_tokens=new_tokens,
            samples=fields.samples,
            top_logprobs=fields.top_logprobs or 0,
        )
        return ChatCall(fields, request)

    async def _render(self, fields: ChatRequest) -> str:
        tools = fields.tools if fields.tool_choice != "none" else None
        if tools and not self.template.knows("tools"):
            raise InvalidRequestError("this model's chat template knows no tools", "unsupported", "tools")
        return await self.template.render(
            template_messages(fields.messages),
            name=NAME,
            add_generation_prompt=fields.add_generation_prompt is not False,
            tools=template_tools(tools) if tools else None,
            extra=fields.chat_template_kwargs,
        )


def _check(fields: ChatRequest) -> None:
    """Refuse what fields rule out together, and what is not done."""
    if fields.top_logprobs and not fields.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs to be true", param="top_logprobs")
    for name in _NOT_SUPPORTED:
        if getattr(fields, name):
            raise InvalidRequestError(f"{name} is not supported", "unsupported", name)
    if fields.function_call not in (None, "none"):
        raise InvalidRequestError("function_call is not supported", "unsupported", "function_call")
    if fields.modalities and fields.modalities != ["text"]:
        raise InvalidRequestError("modalities other than text are not supported", "unsupported", "modalities")
    check_tool_choice(fields.tool_choice)
