"""The engine process: configuration on standard input, one ready line on standard output."""

from __future__ import annotations

import gc
import logging
import os
import sys
import uuid

import msgspec

from runtime.config import EngineConfig
from runtime.logs import JsonFormatter


def main() -> int:
    """Run one engine until it is told to stop; returns the exit code (1: the engine failed, 2: it cannot start)."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s engine %(levelname)s %(message)s")
    try:
        config = msgspec.json.decode(_first_line(), type=EngineConfig)
    except msgspec.MsgspecError as error:
        return _refuse(f"the engine's configuration cannot be read: {error}")
    if config.log_format == "json":
        logging.getLogger().handlers[0].setFormatter(JsonFormatter("engine"))

    from runtime.black_box import BlackBox, box_path
    from runtime.bundle import BundleError
    from runtime.engine.factory import build_engine
    from runtime.engine.isolation import EngineFailedError
    from runtime.engine.loop import EngineLoop
    from runtime.engine.patience import Patience
    from runtime.engine.sizing import SizingError

    try:
        core, summary = build_engine(config)
    except (BundleError, SizingError, OSError, ImportError, msgspec.MsgspecError) as error:
        return _refuse(str(error))
    core.runner.box = BlackBox(box_path(config.socket))
    for killer in core.runner.box.killers:
        logging.getLogger(__name__).error("a request that was in the last step of two engines is quarantined")
        core.quarantine.add(killer)
    core.runner.patience = Patience(config.step_timeout)
    loop = EngineLoop(core, config.socket, uuid.uuid4().hex, config.drain_seconds, config.restarts)
    loop.install_signals()
    gc.collect()
    gc.freeze()  # what is alive now lives as long as the process: no collection has to look at it again
    _say({"ready": True, "limits": core.limits, "summary": summary})
    try:
        loop.run()
    except EngineFailedError:
        logging.getLogger(__name__).critical("step after step failed: giving up")
        return 1
    return 0


def _first_line() -> bytes:
    """The first line of standard input, read without buffering what comes after it."""
    line = bytearray()
    while byte := os.read(sys.stdin.fileno(), 1):
        if byte == b"\n":
            break
        line += byte
    return bytes(line)


def _say(message: dict[str, object]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.flush()


def _refuse(error: str) -> int:
    _say({"ready": False, "error": error})
    return 2


if __name__ == "__main__":
    sys.exit(main())
