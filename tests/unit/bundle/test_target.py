from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.bundle import gpu, target
from runtime.bundle.gpu import Gpu, find_gpu
from runtime.bundle.target import choose_target


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    find_gpu.cache_clear()


def machine(monkeypatch: pytest.MonkeyPatch, found: Gpu | str, *packages: str) -> None:
    monkeypatch.setattr(target, "find_gpu", lambda: found)
    monkeypatch.setattr(target, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(target, "_installed", lambda name: name in packages)


TURING, ADA, HOPPER = Gpu("Turing", "7.5"), Gpu("Ada", "8.9"), Gpu("Hopper", "9.0")


@pytest.mark.parametrize(
    ("found", "packages", "name", "reason"),
    [
        ("no NVIDIA driver", ("tensorrt_rtx",), "cpu", "no NVIDIA driver"),
        (ADA, (), "cpu", "none of the packages"),
        (ADA, ("tensorrt", "tensorrt_rtx"), "tensorrt", "Ada and the package tensorrt"),
        (ADA, ("tensorrt_rtx", "onnxruntime-gpu"), "tensorrt-rtx", "Ada and the package tensorrt-rtx"),
        (HOPPER, ("tensorrt_rtx",), "cpu", "of compute capability 9.0, for which tensorrt-rtx"),
        (HOPPER, ("tensorrt",), "tensorrt", "Hopper"),
        (HOPPER, ("tensorrt_rtx", "onnxruntime-gpu"), "cuda", "Hopper and the package onnxruntime-gpu"),
        (TURING, ("onnxruntime-gpu",), "cpu", "none of the packages"),
    ],
)
def test_the_best_that_machine_and_packages_allow(
    monkeypatch: pytest.MonkeyPatch, found: Gpu | str, packages: tuple[str, ...], name: str, reason: str
) -> None:
    machine(monkeypatch, found, *packages)
    chosen = choose_target()
    assert chosen.name == name
    assert reason in chosen.reason


def test_onnxruntime_for_gpus_is_taken_once_this_version_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, HOPPER, "onnxruntime-gpu")
    assert choose_target().name == "cuda"
    monkeypatch.setattr(target, "TARGETS", ("cpu",))
    assert choose_target().name == "cpu"


def test_who_asks_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ADA, "tensorrt")
    assert choose_target("cpu").name == "cpu"


def driver(status: int = 0, count: int = 1, failing: str = "") -> Any:
    """What libcuda answers."""

    def counts(pointer: Any) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = count
        return 0

    def named(buffer: Any, *_: Any) -> int:
        buffer.value = b"Some GPU"
        return 0

    def attribute(pointer: Any, number: int, _: Any) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 6}[number]
        return 3 if failing else 0

    return SimpleNamespace(
        cuInit=lambda _: status,
        cuDeviceGetCount=counts,
        cuDeviceGet=lambda *_: 0,
        cuDeviceGetName=named,
        cuDeviceGetAttribute=attribute,
    )


@pytest.mark.parametrize(
    ("library", "answer"),
    [
        (None, "no NVIDIA driver"),
        (driver(status=999), "the NVIDIA driver does not start (CUDA error 999)"),
        (driver(count=0), "no NVIDIA GPU"),
        (driver(failing="attribute"), "the NVIDIA GPU does not answer (CUDA error 3)"),
        (driver(), Gpu("Some GPU", "8.6")),
    ],
    ids=["no library", "no start", "no device", "no answer", "a GPU"],
)
def test_the_driver_is_asked_for_its_first_gpu(
    monkeypatch: pytest.MonkeyPatch, library: Any, answer: Gpu | str
) -> None:
    monkeypatch.setattr(gpu, "_driver", lambda: library)
    assert find_gpu() == answer
    find_gpu.cache_clear()
