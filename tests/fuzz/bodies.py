"""Request bodies, from bytes to a request that the engine takes, or to an answer with the right status."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from fuzz.choices import Choices
from fuzz.templates import InlineTemplate
from toy_tokenizer import EOS_ID, VOCAB_SIZE, toy_tokenizer

from runtime.engine.checks import request_problem
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, ToEngine
from runtime.request import Constraint
from server.constraints import ConstraintChecker
from server.errors import InvalidRequestError
from server.native_format import encode
from server.openai.chat_parser import ChatParser
from server.openai.chat_types import ChatMessage, ChatRequest
from server.openai.completion_parser import CompletionParser
from server.openai.completion_types import CompletionRequest
from server.openai.errors import body_of, status_of
from server.openai.request_builder import RequestBuilder
from server.openai.sampling_fields import SamplingFields
from server.openai.token_texts import TokenTexts
from server.openai.tokenize_types import TokenizeRequest
from server.openai.tool_formats import HERMES, LLAMA3, MISTRAL
from server.openai.tool_rules import check_tools
from server.parameters import GenerateBody, Parameters, TokensBody, decode
from server.score_parser import ScoreParser
from server.tgi.parser import parse as parse_tgi
from server.token_healing import TokenHealing
from server.tokenizer import TextCodec
from server.validation import RequestParser, ValidRequest

LIMITS = EngineLimits(
    max_request_tokens=256,
    max_total_tokens=4096,
    max_running=16,
    max_queued=64,
    max_step_tokens=256,
    block_size=16,
    vocab_size=VOCAB_SIZE,
    eos_token_ids=(EOS_ID,),
    constraints=True,
)
REWARD = msgspec.structs.replace(LIMITS, scores=True)
CHAT = "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.tool_calls }};{% endfor %}{{ tools | tojson }}"
KEYS = tuple(
    dict.fromkeys(
        [
            *(name for kind in (GenerateBody, TokensBody, Parameters) for name in kind.__struct_fields__),
            *(name for kind in (SamplingFields, CompletionRequest, ChatRequest) for name in kind.__struct_fields__),
            *(name for kind in (ChatMessage, TokenizeRequest) for name in kind.__struct_fields__),
            *("n", "chat", "text", "num_beam", "grammar", "details", "stop", "best_of", "truncate", "images", "audios"),
            *("json_schema", "schema", "value", "function", "parameters", "arguments", "strict", "properties", "$ref"),
            *("guided_choice", "structured_outputs", "response_format", "logit_bias", "50", "-1", "id", "description"),
        ]
    )
)
TOOLS = '{"model":"m","messages":[{"role":"user","content":"a"}],"tools":'
OPENINGS = ('{"inputs":', '{"chat":', '{"model":"m","prompt":', '{"model":"m","messages":', '{"text":', TOOLS)


class InlineCodec(TextCodec):
    """Does not leave the thread."""

    async def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._encode(text, add_special_tokens)

    async def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return self._decode(ids, skip_special_tokens)


class NoCompiler(ConstraintChecker):
    """Takes every constraint: what compiling makes of them is another target's."""

    async def check(self, constraint: Constraint, name: str, limits: EngineLimits) -> Constraint:
        return constraint


Parse = Callable[[bytes], Awaitable[Any]]


@dataclass(frozen=True)
class Api:
    """What takes a body."""

    parse: Parse
    openai: bool = False
    limits: EngineLimits = LIMITS


@cache
def apis() -> tuple[Api, ...]:
    """All that generate, score or count."""
    codec = InlineCodec(toy_tokenizer())
    healing = TokenHealing(TokenTexts(codec.tokenizer), VOCAB_SIZE, codec.special_ids)
    native = RequestParser(codec=codec, limits=lambda: LIMITS, checker=NoCompiler())
    healed = RequestParser(codec=codec, limits=lambda: LIMITS, checker=NoCompiler(), healing=healing, strict=True)
    template = InlineTemplate(CHAT)
    builder = RequestBuilder(codec=codec, limits=lambda: LIMITS, checker=NoCompiler(), truncation="center")
    scores = ScoreParser(codec=codec, limits=lambda: REWARD, template=template, truncation="head")
    chats = [ChatParser(builder, template, form) for form in (HERMES, LLAMA3, MISTRAL, None)]
    tokenize, tokens = msgspec.json.Decoder(TokenizeRequest), msgspec.json.Decoder(TokensBody)

    async def tokenized(body: bytes) -> None:
        fields = decode(tokenize, body)
        check_tools(fields.tools)
        if fields.messages is not None:
            await chats[0].render(fields, fields.tools or [])

    async def counted(body: bytes) -> None:
        parsed = decode(tokens, body)
        await codec.encode(parsed.text, bool(parsed.parameters.add_special_tokens))

    return (
        Api(native.generate),
        Api(lambda body: native.generate(body, streaming=True)),
        Api(lambda body: healed.generate(body, streaming=False)),
        Api(scores.parse, limits=REWARD),
        Api(lambda body: parse_tgi(native, body, None)),
        Api(counted),
        Api(CompletionParser(builder).parse, openai=True),
        *(Api(chat.parse, openai=True) for chat in chats),
        Api(tokenized, openai=True),
    )


@cache
def loop() -> asyncio.AbstractEventLoop:
    """One for all."""
    made = asyncio.new_event_loop()
    atexit.register(made.close)
    return made


def one_input(data: bytes) -> None:
    """Parse one body."""
    choices = Choices(data)
    api = choices.pick(apis())
    kind = choices.byte()
    if kind < 64:
        body = choices.rest()
    elif kind < 160:
        body = choices.object(KEYS).encode()
    else:
        last = choices.pick(OPENINGS)
        fields = "".join(f',"{choices.pick(KEYS)}":{choices.json(KEYS)}' for _ in range(choices.byte() % 6))
        parameters = f',"parameters":{choices.object(KEYS)}' if kind & 1 else ""
        body = f"{last}{choices.json(KEYS)}{parameters}{fields}}}".encode()
    check(api, body)


def check(api: Api, body: bytes) -> None:
    """Whatever comes of ``body`` has to be a request that the engine takes, or an answer."""
    try:
        parsed = loop().run_until_complete(_of(api.parse, body))
    except InvalidRequestError as error:
        if api.openai:
            assert status_of(error) in (400, 422), error
            encode(body_of(error))
        else:
            assert error.status == 417
            encode([error.message, error.error_code, error.param])
        assert len(error.message) < 100_000
        return
    for request in _requests(parsed):
        message = AddRequest(1, request.prompt, request.sampling, request.samples)
        assert not request_problem(message, api.limits), request
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ToEngine) == message
        encode([request.stop_strings, request.ignored])


async def _of(parse: Parse, body: bytes) -> Any:
    return await parse(body)


def _requests(parsed: Any) -> list[ValidRequest]:
    if isinstance(parsed, tuple):
        first = parsed[0]
        return first if isinstance(first, list) else [first]
    if parsed is None:
        return []
    return getattr(parsed, "requests", None) or [parsed.request]


SEEDS = [
    b"\0\0" + b'{"inputs":"hi","parameters":{"max_new_tokens":3,"do_sample":true,"stop_sequences":["a",[1,2]]}}',
    b"\0\0" + b'{"inputs":[1,2,3],"parameters":{"regular_constraint":"a+","seed":7,"n":2},"stream":false}',
    b"\0\0" + b"[" * 400,
    b"\3\0" + b'{"chat":[[{"role":"user","content":[{"type":"text","text":"a"}]}]]}',
    b"\4\0" + b'{"inputs":"hi","parameters":{"grammar":{"type":"json","value":{"type":"object"}},"stop":["x"]}}',
    b"\6\0" + b'{"model":"m","prompt":["a",[1]],"logit_bias":{"5":1},"echo":true,"logprobs":2,"max_tokens":0}',
    b"\7\0" + b'{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":'
    b'{"name":"f","parameters":{"properties":{"a":{"$ref":"#"}}}}}],"tool_choice":"required"}',
    b"\7\0" + b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"'
    b'}}]}],"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}}}',
]
