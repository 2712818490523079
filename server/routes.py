"""All paths: the application answers on them and ``/openapi.json`` describes them, both from this table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from server.access.public_paths import is_public, public_paths
from server.native_types import (
    GenerateAnswer,
    Message,
    ModelName,
    ScoreAnswer,
    Status,
    StreamEvent,
    TokenCount,
    TokenLoad,
)
from server.openai.chat_types import ChatChunk, ChatCompletion, ChatRequest
from server.openai.completion_types import Completion, CompletionRequest
from server.openai.errors import ErrorBody
from server.openai.event_stream import LAST
from server.openai.model_types import Model, ModelList
from server.openai.tokenize_types import DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest
from server.openapi import describe
from server.operations import (
    CACHED,
    GENERATION,
    NATIVE,
    NATIVE_GENERATION,
    OPENAI,
    UNAVAILABLE,
    HttpFailure,
    Operation,
    Route,
)
from server.parameters import GenerateBody, StreamChoice, TokensBody
from server.resources.assets import MEDIA_TYPES, DescriptionResource, PageResource, load_pages
from server.resources.generate import GenerateResource
from server.resources.openai import ChatCompletionsResource, CompletionsResource, ModelsResource
from server.resources.openai_tokenize import DetokenizeResource, TokenizeResource
from server.resources.score import ScoreResource
from server.resources.state import ServerState, StateResource
from server.resources.status import (
    HealthResource,
    LivenessResource,
    MetricsResource,
    ModelNameResource,
    ReadinessResource,
    TokenLoadResource,
)
from server.resources.text import TokensResource
from server.score_body import ScoreBody
from server.services import Services
from server.tgi.types import TgiAnswer, TgiBody, TgiEvent

Start = Callable[[], Services]

_PROMPT = {"inputs": "What is AI?", "parameters": {"max_new_tokens": 17, "do_sample": False}}
_COMPLETION = {"model": "default", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
_CHAT = {
    "model": "default",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_completion_tokens": 32,
}
_SCORE = {"chat": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"}


def routes(services: Start, *, ui: bool = True, tgi: bool = False) -> Sequence[Route]:
    """Every path that is served.

    Args:
        services: Gives the shared parts, once they have started.
        ui: Serve the pages too.
        tgi: LightLLM's paths speak TGI's format.
    """
    table = [*_openai(services), *_tokenize(services), *_generate(services, tgi), *_count(services), *_state(services)]
    if ui:
        table += _pages(services)
    description = DescriptionResource(lambda: msgspec.json.encode(describe(table, _locked(table, services()))))
    document = Operation(tag="Pages", summary="This description, in OpenAPI 3.1.", answer=dict, failures=CACHED)
    table.append(Route("/openapi.json", description, {"GET": document, "HEAD": document}))
    return table


def _locked(table: Sequence[Route], services: Services) -> frozenset[str]:
    """The paths that want a key."""
    config = services.config
    if not config.key_ring:
        return frozenset()
    public = public_paths(metrics=config.public_metrics)
    return frozenset(route.path for route in table if not is_public(route.path, public))


def _openai(services: Start) -> list[Route]:
    tag, models = "OpenAI", ModelsResource(services)
    chat = Operation(
        tag=tag,
        summary="Go on with a chat.",
        body=(ChatRequest,),
        answer=ChatCompletion,
        events=(ChatChunk, ErrorBody),
        last=LAST,
        failures=GENERATION,
        example=_CHAT,
    )
    completion = Operation(
        tag=tag,
        summary="Go on from prompts.",
        body=(CompletionRequest,),
        answer=Completion,
        events=(Completion, ErrorBody),
        last=LAST,
        failures=GENERATION,
        example=_COMPLETION,
    )
    listing = Operation(tag=tag, summary="The models: one.", answer=ModelList, failures={503: ErrorBody})
    model = Operation(tag=tag, summary="A model.", answer=Model, failures={404: ErrorBody, 503: ErrorBody})
    return [
        Route("/v1/chat/completions", ChatCompletionsResource(services), {"POST": chat}),
        Route("/v1/completions", CompletionsResource(services), {"POST": completion}),
        Route("/v1/models", models, {"GET": listing}),
        Route("/v1/models/{name:path}", models, {"GET": model}, suffix="one"),
    ]


def _tokenize(services: Start) -> list[Route]:
    tag = "OpenAI"
    tokenize = Operation(
        tag=tag,
        summary="Token ids of a text or a chat.",
        body=(TokenizeRequest,),
        answer=TokenizeAnswer,
        failures=OPENAI,
        example={"prompt": "The capital", "return_token_strs": True},
    )
    detokenize = Operation(
        tag=tag,
        summary="The text of token ids.",
        body=(DetokenizeRequest,),
        answer=DetokenizeAnswer,
        failures=OPENAI,
        example={"tokens": [12, 34]},
    )
    return [
        Route("/tokenize", TokenizeResource(services), {"POST": tokenize}),
        Route("/detokenize", DetokenizeResource(services), {"POST": detokenize}),
    ]


def _generate(services: Start, tgi: bool) -> list[Route]:
    tag, body = "LightLLM", (TgiBody if tgi else GenerateBody,)
    answer, events = (TgiAnswer | list[TgiAnswer], (TgiEvent,)) if tgi else (GenerateAnswer, (StreamEvent,))
    whole = Operation(
        tag=tag, summary="Go on from a prompt.", body=body, answer=answer, failures=NATIVE_GENERATION, example=_PROMPT
    )
    stream = Operation(
        tag=tag,
        summary="The same as a stream, one event a token.",
        body=body,
        events=events,
        failures=NATIVE_GENERATION,
        example=_PROMPT,
    )
    either = Operation(
        tag=tag,
        summary="Either of the two, as `stream` says.",
        body=body if tgi else (GenerateBody, StreamChoice),
        answer=answer,
        events=events,
        failures=NATIVE_GENERATION,
        example=_PROMPT,
    )
    return [
        Route("/generate", GenerateResource(services, streaming=False), {"POST": whole}),
        Route("/generate_stream", GenerateResource(services, streaming=True), {"POST": stream}),
        Route("/", GenerateResource(services, streaming=None), {"POST": either}),
    ]


def _count(services: Start) -> list[Route]:
    tag = "LightLLM"
    score = Operation(
        tag=tag,
        summary="The score of a chat, from a reward model.",
        body=(ScoreBody,),
        answer=ScoreAnswer,
        failures=NATIVE_GENERATION,
        example=_SCORE,
    )
    count = Operation(
        tag=tag,
        summary="The number of tokens of a text.",
        body=(TokensBody,),
        answer=TokenCount,
        failures=NATIVE,
        example={"text": "What is AI?"},
    )
    count_query = Operation(
        tag=tag,
        summary="The same; the text may be in the body too.",
        query={"text": "What to count the tokens of."},
        answer=TokenCount,
        failures=NATIVE,
    )
    return [
        Route("/get_score", ScoreResource(services), {"POST": score}),
        Route("/tokens", TokensResource(services), {"GET": count_query, "POST": count}),
    ]


def _state(services: Start) -> list[Route]:
    tag, health = "State", HealthResource(services)
    healthy = Operation(tag=tag, summary="Whether the engine does its work.", answer=Message, failures=UNAVAILABLE)
    alive = Operation(tag=tag, summary="Whether this process answers.", answer=Status)
    ready = Operation(tag=tag, summary="Whether requests are welcome.", answer=Status, failures={503: Status})
    load = Operation(tag=tag, summary="Shares of the KV cache.", answer=TokenLoad, failures=UNAVAILABLE)
    name = Operation(tag=tag, summary="The model's name.", answer=ModelName)
    metrics = Operation(tag=tag, summary="Everything that is counted, for Prometheus.", answer=("text/plain",))
    return [
        Route("/health", health, {"GET": healthy, "HEAD": healthy}),
        Route("/healthz", health, {"GET": healthy, "HEAD": healthy}),
        Route("/liveness", LivenessResource(), {"GET": alive, "POST": alive}),
        Route("/readiness", ReadinessResource(services), {"GET": ready, "POST": ready}),
        Route("/token_load", TokenLoadResource(services), {"GET": load}),
        Route("/get_model_name", ModelNameResource(services), {"GET": name, "POST": name}),
        Route("/metrics", MetricsResource(services), {"GET": metrics}),
    ]


def _pages(services: Start) -> list[Route]:
    tag, pages = "Pages", load_pages()
    ui, docs = PageResource(pages, "index.html"), PageResource(pages, "docs.html")
    parts = tuple(kind.partition(";")[0] for kind in MEDIA_TYPES.values())
    page = ("text/html",)
    state = Operation(tag=tag, summary="What /ui shows of the server.", answer=ServerState, failures=UNAVAILABLE)
    front = Operation(tag=tag, summary="Try the model.", answer=page, failures=CACHED)
    manual = Operation(tag=tag, summary="Read the API.", answer=page, failures=CACHED)
    part = Operation(tag=tag, summary="A file that a page needs.", answer=parts, failures={**CACHED, 404: HttpFailure})
    return [
        Route("/ui", ui, {"GET": front, "HEAD": front}),
        Route("/ui/state", StateResource(services), {"GET": state}),
        Route("/ui/{name}", ui, {"GET": part, "HEAD": part}, suffix="part"),
        Route("/docs", docs, {"GET": manual, "HEAD": manual}),
    ]
