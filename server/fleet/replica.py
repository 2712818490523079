"""An engine on a cluster: the process of the single server, behind an actor that carries its messages."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import msgspec
from ray import serve

from runtime.messages import StepOutputs
from server.engine_client import EngineClient
from server.engine_process import EngineProcess
from server.errors import ClientGoneError, ServerError
from server.fleet.prefix_probe import PrefixProbe
from server.fleet.report import KV_LOAD, as_routing_stats, kv_load
from server.fleet.settings import decode_settings
from server.fleet.wire import ReplicaState, context_of, decode_request, encode, failed
from server.request_context import entered
from server.request_stream import RequestStream
from server.run_directory import ENGINE_SOCKET, run_directory

HEALTH_SECONDS = 5.0
"""In which a healthy engine answers."""

STOP_SECONDS = 5.0
START_SECONDS = 60.0
"""Until an engine that has said that it is ready lets somebody connect."""

logger = logging.getLogger("peregrine.fleet")


class EngineReplica:
    """One engine. An engine that dies takes its actor along, so that everybody learns of it at once.

    Args:
        settings: A ``FleetSettings``, encoded.
    """

    async def __init__(self, settings: bytes) -> None:  # type: ignore[misc]  # Serve awaits it
        self._resources = ExitStack()
        fleet = decode_settings(settings)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._reports = 0
        self._streams: dict[str, RequestStream] = {}
        socket = self._resources.enter_context(run_directory()) / ENGINE_SOCKET
        self._engine = await EngineProcess.start(msgspec.structs.replace(fleet.engine, socket=str(socket)))
        for line in self._engine.summary:
            logger.info("%s", line)
        self._client = EngineClient(str(socket))
        await self._client.start(START_SECONDS)
        self._probe = PrefixProbe(str(socket)) if fleet.routing == "prefix" and fleet.max_replicas > 1 else None
        watch = asyncio.get_running_loop().create_task(self._leave_with_engine())
        self._resources.callback(watch.cancel)

    async def generate(self, key: str, frame: bytes, _route: Any) -> AsyncIterator[bytes]:
        """Run a request.

        Args:
            key: Names it to ``abort``.
            frame: As ``wire.decode_request`` takes it.
            _route: For who chose this replica.

        Yields:
            What ``wire.decode_reply`` takes: all outputs that came while the last were on their way.
        """
        request, ended = decode_request(frame)
        try:
            with entered(context_of(request)):
                stream = self._client.submit(request.prompt, request.sampling, request.samples)
            self._streams[key] = stream
            for sample in ended:
                stream.cancel_sample(sample)
            try:
                while outputs := await stream.take():
                    yield encode(StepOutputs(outputs))
            finally:
                del self._streams[key]
                stream.cancel(ClientGoneError())
        except ServerError as error:
            yield encode(failed(error))

    async def abort(self, key: str, sample: int) -> None:
        """Free one sample of a request, if it runs here."""
        stream = self._streams.get(key)
        if stream is not None:
            stream.cancel_sample(sample)

    async def state(self) -> bytes:
        """A ``ReplicaState``."""
        return encode(ReplicaState(self._name, self._client.limits, await self._client.stats()))

    async def check_health(self) -> None:
        """Called by Serve, which replaces a replica that fails; the engine's heartbeat.

        Raises:
            RuntimeError: The engine does not answer.
        """
        if not await self._client.alive(HEALTH_SECONDS):
            raise RuntimeError("the engine does not answer")

    async def record_routing_stats(self) -> dict[str, Any]:
        """Called by Serve, which takes it to every router."""
        self._reports += 1
        digests = b"" if self._probe is None else await self._probe.digests()
        return as_routing_stats(self._reports, await self._client.stats(), digests)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve, which takes it to ``server.fleet.scaling``."""
        return {KV_LOAD: kv_load(await self._client.stats())}

    def __del__(self) -> None:
        """Called by Serve once nothing runs here any more; the engine dies with this process."""
        self._resources.close()

    async def _leave_with_engine(self) -> None:
        status = await self._engine.wait()
        logger.error("the engine ended with status %d", status)
        self._resources.close()
        # NOTE: as an engine's death, in the single server, is a broken connection: nobody waits for a health check.
        os._exit(1)
