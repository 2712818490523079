"""From the body of ``/v1/chat/completions`` to a request that the engine can run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from server.chat_template import ChatTemplate
from server.errors import InvalidRequestError
from server.openai.chat_messages import NAME, template_messages, template_tools
from server.openai.chat_types import ChatRequest
from server.openai.forced_calls import forced_calls
from server.openai.request_builder import RequestBuilder
from server.openai.tokenize_types import TokenizeRequest
from server.openai.tool_formats import HERMES, ToolFormat, ToolUse
from server.openai.tool_prompt import without_tools
from server.openai.tool_rules import check_tools
from server.openai.tool_types import Tool
from server.parameters import decode
from server.validation import ValidRequest

_REQUEST = msgspec.json.Decoder(ChatRequest)

_NOT_SUPPORTED = ("continue_final_message", "functions", "audio", "web_search_options")


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A parsed call.

    Attributes:
        fields: As they came.
        tools: What outputs may call; ``None`` leaves them text.
    """

    fields: ChatRequest
    request: ValidRequest
    tools: ToolUse | None = None


@dataclass(frozen=True, slots=True)
class ChatParser:
    """The door of ``/v1/chat/completions``.

    Attributes:
        tool_format: How the model writes calls; ``None`` if that is unknown.
    """

    builder: RequestBuilder
    template: ChatTemplate
    tool_format: ToolFormat | None

    async def parse(self, body: bytes) -> ChatCall:
        """Parse a body.

        Raises:
            InvalidRequestError: Anything is wrong with it.
            UnavailableError: No engine has been reached yet, or too many chats are being rendered.
        """
        fields = decode(_REQUEST, body)
        _check(fields)
        tools = (fields.tools or []) if fields.tool_choice != "none" else []
        use = self._tool_use(fields, tools)
        forced = None
        if use is not None:
            forced = forced_calls(use.form, tools, fields.tool_choice, parallel=use.parallel, codec=self.builder.codec)
        stops = await self.builder.stops(fields, forced)
        text = await self.render(fields, tools)
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
        if use is not None:
            request = replace(request, shown_special_ids=self.builder.codec.special_ids_of(use.form.marks))
        return ChatCall(fields, request, use)

    async def render(self, fields: ChatRequest | TokenizeRequest, tools: list[Tool]) -> str:
        """The text of a chat.

        Raises:
            InvalidRequestError: The template does not take it.
            UnavailableError: Too many chats are being rendered.
        """
        messages = template_messages(fields.messages or [])
        described = template_tools(tools) if tools else None
        if not self.template.knows("tools"):
            messages, described = without_tools(messages, described, self.tool_format or HERMES), None
        return await self.template.render(
            messages,
            name=NAME,
            add_generation_prompt=fields.add_generation_prompt is not False,
            tools=described,
            extra=fields.chat_template_kwargs,
        )

    def _tool_use(self, fields: ChatRequest, tools: list[Tool]) -> ToolUse | None:
        """What outputs may call; of a model whose format is unknown, only what they have to call."""
        if not tools or (self.tool_format is None and fields.tool_choice in (None, "auto")):
            return None
        names = frozenset(tool.function.name for tool in tools)
        return ToolUse(self.tool_format or HERMES, names, parallel=fields.parallel_tool_calls is not False)


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
    check_tools(fields.tools, fields.tool_choice)
