"""The default model in each form that a peer reads: made once, from the same GGUF file, and kept in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.checkpoint import write_huggingface
from benchmarks.peers.environments import install, peers_root, run_logged

MODEL = "smollm2-135m-instruct"


def gguf() -> Path:
    """The file that the default recipe names."""
    from build_engine.sources import resolve_source

    return resolve_source(MODEL).path


def huggingface() -> Path:
    """A Hugging Face directory of the same weights."""
    return prepared("huggingface", lambda folder: write_huggingface(MODEL, folder))


def openvino(weights: str) -> Path:
    """OpenVINO IR with ``weights`` stored as ``fp16``, ``int8`` or ``int4``."""

    def convert(folder: Path) -> None:
        install(environments.OPENVINO)
        tool = str(environments.OPENVINO.python.with_name("optimum-cli"))
        options = ["--task", "text-generation-with-past", "--weight-format", weights]
        _convert([tool, "export", "openvino", "--model", str(huggingface()), *options, str(folder)], folder)

    return prepared(f"openvino-{weights}", convert)


def onnxruntime_genai() -> Path:
    """What the builder of onnxruntime-genai makes of it with ``int4`` weights."""

    def convert(folder: Path) -> None:
        install(environments.ONNXRUNTIME_GENAI)
        python = str(environments.ONNXRUNTIME_GENAI.python)
        builder = [python, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
        # NOTE: without this, a prompt's logits are computed for all of its tokens.
        options = ["--extra_options", "prune_lm_head=true"]
        _convert([*builder, "-i", str(huggingface()), "-o", str(folder), "-c", str(folder), *options], folder)

    return prepared("onnxruntime-genai-int4", convert)


def q8_0() -> Path:
    """A GGUF file in which the matrices are requantised to Q8_0."""

    def convert(folder: Path) -> None:
        install(environments.LLAMA_CPP)
        tool = str(environments.llama_program("llama-quantize"))
        _convert([tool, "--allow-requantize", str(gguf()), str(folder / "model.gguf"), "Q8_0"], folder)

    return prepared("gguf-q8_0", convert) / "model.gguf"


def prepared(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a prepared model, made by ``make`` where it is not there yet, whole or not at all."""
    folder = peers_root() / "models" / name
    if not folder.is_dir():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(folder)
    return folder


def _convert(command: list[str], folder: Path) -> None:
    run_logged(command, folder.with_suffix(".log"))
