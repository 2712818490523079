from __future__ import annotations

import asyncio
import math
import signal
import sys
from pathlib import Path

import pytest

from runtime.black_box import Pulse
from runtime.config import EngineConfig
from runtime.engine.patience import Patience
from server.engine_process import EngineProcess
from server.watchdog import TICK_SECONDS, Silence


def ticks_until_hung(patience: float, beats: int = 0, limit: int = 10_000) -> float:
    silence = Silence()
    for number in range(beats):
        assert not silence.tick(Pulse(number, patience))
    for ticks in range(limit):
        if silence.tick(Pulse(beats, patience)):
            return ticks * TICK_SECONDS
    return math.inf


def test_silence_is_measured_in_ticks_from_the_last_beat() -> None:
    assert ticks_until_hung(5.0) == 5.0 + TICK_SECONDS
    assert ticks_until_hung(5.0, beats=100) == 5.0 + TICK_SECONDS
    assert ticks_until_hung(math.inf) == math.inf


def test_patience_is_the_operators_or_what_large_steps_of_a_slow_model_need() -> None:
    patience = Patience(60)
    assert (patience.seconds(), patience.seconds(1)) == (60, 600)
    patience.observe(1000, 100.0)
    assert (patience.seconds(), patience.seconds(1)) == (60, 60)
    assert patience.seconds(1000) == pytest.approx(300)
    assert Patience(0).seconds(1) == math.inf
    assert Patience(0.1).seconds() == 2


ENGINE = """
import signal, sys
from pathlib import Path
from runtime.black_box import BlackBox
BlackBox(Path(sys.argv[1])).beat(0.1)
print('{"ready": true}', flush=True)
signal.pause()
"""


def test_an_engine_without_a_sign_of_life_is_killed(tmp_path: Path) -> None:
    async def test() -> None:
        config = EngineConfig(bundle="", socket=str(tmp_path / "engine"))
        engine = await EngineProcess.start(config, (sys.executable, "-c", ENGINE, f"{tmp_path}/engine.box"))
        assert await engine.wait() == -signal.SIGKILL
        assert engine.hung > 0.1

    asyncio.run(test())
