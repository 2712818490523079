"""Everything the endpoints of one HTTP worker share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.architecture import ScoreHead
from runtime.bundle.bundle import GENERATION_CONFIG_FILE
from runtime.bundle.manifest_file import MANIFEST_FILE, read_manifest
from runtime.stats import EngineStats
from server.chat_template import ChatTemplate
from server.config import WorkerConfig
from server.constraints import ConstraintChecker
from server.engine_client import EngineClient
from server.engine_port import EnginePort
from server.engine_totals import add_up
from server.environment import RequestRules
from server.generate_format import GenerateFormat
from server.generation import Generator
from server.generation_defaults import GenerationDefaults, read_defaults
from server.health import EngineHealth
from server.metrics import FrontMetrics
from server.native_format import NativeFormat
from server.observer import Observer, Observers
from server.openai.chat_parser import ChatParser
from server.openai.completion_parser import CompletionParser
from server.openai.request_builder import RequestBuilder
from server.openai.token_texts import TokenTexts
from server.openai.tool_formats import choose_format
from server.score_parser import ScoreParser
from server.scoring import Scorer
from server.tgi.format import TgiFormat
from server.token_healing import TokenHealing
from server.tokenizer import TextCodec
from server.validation import RequestParser

COUNTS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Made once the engine has told its limits.

    Attributes:
        format: What LightLLM's paths speak.
        draining: Says whether the server is about to stop.
        counts: Directory in which all workers count; ``None`` if this is the only one.
    """

    config: WorkerConfig
    client: EnginePort
    health: EngineHealth
    codec: TextCodec
    checker: ConstraintChecker
    template: ChatTemplate
    parser: RequestParser
    format: GenerateFormat
    generator: Generator
    score_parser: ScoreParser
    scorer: Scorer
    completion_parser: CompletionParser
    chat_parser: ChatParser
    token_texts: TokenTexts
    metrics: FrontMetrics
    draining: Callable[[], bool]
    counts: Path | None = None

    async def engine_stats(self) -> EngineStats:
        """The engine's load, and what all engines of this server have counted.

        Raises:
            UnavailableError: The engine does not answer.
        """
        stats = await self.client.stats()
        if self.counts is not None:
            with suppress(OSError):  # a full disk is no reason to say nothing
                return add_up(self.counts, self.client.boot_id, stats)
        return stats

    async def close(self) -> None:
        """Free what is held; open requests end with an error."""
        await self.client.close()
        self.codec.close()
        self.checker.close()
        self.template.close()


async def connect_to_engine(config: WorkerConfig, stopping: Callable[[], bool]) -> EnginePort:
    """The engine at the configured socket.

    Raises:
        TimeoutError: It does not answer.
    """
    client = EngineClient(config.engine_socket, config.replay_seconds, stopping)
    await client.start()
    return client


async def start_services(
    config: WorkerConfig,
    environ: Mapping[str, str],
    draining: Callable[[], bool] = lambda: False,
    observers: Sequence[Observer] = (),
    connect: Callable[[WorkerConfig, Callable[[], bool]], Awaitable[EnginePort]] = connect_to_engine,
) -> Services:
    """Load the tokenizer, connect to the engine and put the parts together.

    Args:
        config: This worker's.
        environ: Its environment.
        draining: Says whether the server is about to stop.
        observers: Are told of requests, besides the metrics.
        connect: Reaches the engine; given ``config`` and ``draining``.

    Raises:
        ValueError: The bundle's tokenizer or an environment variable cannot be used.
        BundleError: The bundle's manifest cannot be read.
        TimeoutError: The engine does not answer.
    """
    bundle = Path(config.bundle)
    rules = RequestRules.from_environ(environ)
    template, head = _load_template(bundle)
    codec = TextCodec.load(bundle)
    client = await connect(config, draining)
    metrics = FrontMetrics(client.limits.max_request_tokens, config.model_name)
    client.on_step = metrics.step
    observer = Observers([metrics, *observers]) if observers else metrics
    client.on_replay = metrics.replay
    checker = ConstraintChecker()
    texts = TokenTexts(codec.tokenizer)
    parser = RequestParser(
        codec=codec,
        limits=lambda: client.limits,
        rules=rules,
        defaults=_defaults(config),
        strict=config.strict_parameters,
        truncation=config.truncation,
        prompt_logprobs=config.prompt_logprobs,
        healing=TokenHealing(texts, client.limits.vocab_size, codec.special_ids) if config.token_healing else None,
        on_request=metrics.request,
        checker=checker,
    )
    score_parser = ScoreParser(
        codec=codec,
        limits=lambda: client.limits,
        template=template,
        head=head,
        truncation=config.truncation,
        on_request=metrics.request,
    )
    builder = RequestBuilder(
        codec=codec,
        limits=lambda: client.limits,
        rules=rules,
        truncation=config.truncation,
        on_request=metrics.request,
        checker=checker,
    )
    return Services(
        config=config,
        client=client,
        health=EngineHealth(client, rules),
        codec=codec,
        checker=checker,
        template=template,
        parser=parser,
        format=TgiFormat(parser, rules.return_list) if config.tgi else NativeFormat(parser),
        generator=Generator(
            client, codec, rules, observer, rules.first_allowed_tokens if config.first_token_constraint else ()
        ),
        score_parser=score_parser,
        scorer=Scorer(client, observer),
        completion_parser=CompletionParser(builder),
        chat_parser=ChatParser(builder, template, choose_format(config.tool_call_parser, template, codec.tokenizer)),
        token_texts=texts,
        metrics=metrics,
        draining=draining,
        counts=Path(environ[COUNTS_VARIABLE]) if COUNTS_VARIABLE in environ else None,
    )


def _defaults(config: WorkerConfig) -> GenerationDefaults:
    if config.ignore_generation_config:
        return GenerationDefaults()
    return read_defaults(Path(config.bundle) / GENERATION_CONFIG_FILE)[0]


def _load_template(bundle: Path) -> tuple[ChatTemplate, ScoreHead]:
    """How the bundle's model takes its chats. The scripted engine's has no manifest."""
    special_tokens: dict[str, str] = {}
    head = None
    if (bundle / MANIFEST_FILE).is_file():
        manifest = read_manifest(bundle)
        special_tokens, head = manifest.special_tokens, manifest.architecture.score_head
    return ChatTemplate.load(bundle, special_tokens), head or ScoreHead()
