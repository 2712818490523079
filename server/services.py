"""Everything the endpoints of one HTTP worker share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.bundle import GENERATION_CONFIG_FILE
from server.config import WorkerConfig
from server.engine_client import EngineClient
from server.environment import RequestRules
from server.generation import Generator
from server.generation_defaults import GenerationDefaults, read_defaults
from server.metrics import FrontMetrics
from server.tokenizer import TextCodec
from server.validation import RequestParser


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Made once the engine has told its limits.

    Attributes:
        draining: Says whether the server is about to stop.
    """

    config: WorkerConfig
    rules: RequestRules
    client: EngineClient
    codec: TextCodec
    parser: RequestParser
    generator: Generator
    metrics: FrontMetrics
    draining: Callable[[], bool]

    async def close(self) -> None:
        """Free what is held; open requests end with an error."""
        await self.client.close()
        self.codec.close()


async def start_services(
    config: WorkerConfig, environ: Mapping[str, str], draining: Callable[[], bool] = lambda: False
) -> Services:
    """Load the tokenizer, connect to the engine and put the parts together.

    Raises:
        ValueError: The bundle's tokenizer or an environment variable cannot be used.
        TimeoutError: The engine does not answer.
    """
    bundle = Path(config.bundle)
    rules = RequestRules.from_environ(environ)
    codec = TextCodec.load(bundle)
    defaults = GenerationDefaults()
    if not config.ignore_generation_config:
        defaults, _ = read_defaults(bundle / GENERATION_CONFIG_FILE)
    client = EngineClient(config.engine_socket)
    await client.start()
    metrics = FrontMetrics(client.limits.max_request_tokens, config.model_name)
    client.on_step = metrics.step
    parser = RequestParser(
        codec=codec,
        limits=lambda: client.limits,
        rules=rules,
        defaults=defaults,
        strict=config.strict_parameters,
        truncation=config.truncation,
        prompt_logprobs=config.prompt_logprobs,
        on_request=metrics.request,
    )
    return Services(
        config=config,
        rules=rules,
        client=client,
        codec=codec,
        parser=parser,
        generator=Generator(client, codec, rules, metrics),
        metrics=metrics,
        draining=draining,
    )
