"""Calls of ``/v1`` in process, and their streams taken apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asgi_driver import Answer, Client

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}[{{ call.function.name }} {{ call.function.arguments.x }}]{% endfor %}"
    "{% endfor %}{% for tool in tools or [] %}#{{ tool.function.name }}{% endfor %}"
    "{% if loud %}!{% endif %}{% if add_generation_prompt %}>{% endif %}"
)


def with_template(bundle: Path) -> None:
    """Give the toy model a chat template."""
    (bundle / "chat_template.jinja").write_text(TEMPLATE)


async def complete(client: Client, prompt: Any = "hi", **fields: Any) -> Answer:
    return await client.request("POST", "/v1/completions", {"model": "m", "prompt": prompt, **fields})


async def chat(client: Client, *contents: Any, **fields: Any) -> Answer:
    messages = [content if isinstance(content, dict) else {"role": "user", "content": content} for content in contents]
    return await client.request("POST", "/v1/chat/completions", {"model": "m", "messages": messages, **fields})


def stream(answer: Answer) -> list[Any]:
    """The chunks of a stream that ended well."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *frames, done, rest = answer.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(frame.startswith("data: {") for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def joined(chunks: list[Any], index: int = 0) -> str:
    """The text of one choice of a stream."""
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)
