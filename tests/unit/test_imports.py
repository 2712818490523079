"""Dependencies point one way. The rules are the architecture's; this test is what keeps them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "server", "build_engine")
BUILD_MAY_USE = (
    "runtime.bundle",
    "runtime.executors",
    "runtime.native",
    "runtime.reference",
    "runtime.memory",
    "runtime.cuda",
)
STANDARD_LIBRARY_ONLY = ("runtime.scheduler", "runtime.request")
LAZY = {
    "onnxruntime": ("runtime.executors", "build_engine"),
    "onnx": ("build_engine",),
    "transformers": ("build_engine",),
    "tensorrt": ("runtime.executors", "build_engine.targets"),
    "cuda": ("runtime.cuda", "runtime.executors"),
    "llguidance": ("runtime.constraints",),
    "opentelemetry": ("server.tracing",),
    "ray": ("server.fleet",),
    "torch": (),
    "pickle": (),
    "marshal": (),
    "shelve": (),
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def refusal(module: str, imported: str) -> str:
    """Why ``module`` may not import ``imported``; empty when it may."""
    top = imported.partition(".")[0]
    if within(module, "runtime") and within(imported, "server", "build_engine"):
        return "runtime imports neither server nor build_engine"
    if within(module, "server") and within(imported, "build_engine") and module != "server.cli":
        return "only server.cli may reach build_engine"
    if within(module, "build_engine") and within(imported, "server"):
        return "build_engine does not know the server"
    if within(module, "build_engine") and imported.startswith("runtime.") and not within(imported, *BUILD_MAY_USE):
        return f"build_engine may import {BUILD_MAY_USE} of runtime"
    if within(module, *STANDARD_LIBRARY_ONLY) and not within(imported, *STANDARD_LIBRARY_ONLY):
        return "" if top in sys.stdlib_module_names else "the standard library only"
    if within(module, "server") and top in ("numpy", "onnxruntime", "onnx"):
        return "the server knows no tensors"
    if top in LAZY and not within(module, *LAZY[top]):
        return f"{top} belongs to {LAZY[top] or 'nobody'}"
    return ""


def test_every_import_points_the_right_way() -> None:
    refused = [
        f"{module} imports {imported}: {why}"
        for module, path in modules()
        for imported in imports(path)
        if (why := refusal(module, imported))
    ]
    assert refused == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("runtime.engine.core", "server.app"),
        ("server.app", "build_engine.cli"),
        ("build_engine.verify", "runtime.scheduler"),
        ("runtime.scheduler.plan", "numpy"),
        ("server.app", "numpy"),
        ("runtime.native", "torch"),
    ],
)
def test_the_rules_refuse_what_they_should(module: str, imported: str) -> None:
    assert refusal(module, imported)


def test_modules_stay_small() -> None:
    sizes = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules()}
    assert {module: size for module, size in sizes.items() if size > 320} == {}
    assert sorted(sizes.values())[len(sizes) // 2] <= 90


@pytest.mark.parametrize("package", ["runtime", "server.serve", "build_engine", "benchmarks"])
def test_onnxruntime_is_told_to_report_to_nobody_before_it_can_be_loaded(package: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = f"import os, {package}; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_an_http_worker_loads_no_array_library() -> None:
    code = "import sys, server.worker; print(sorted({'numpy', 'onnxruntime'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
