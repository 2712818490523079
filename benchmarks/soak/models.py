"""The models of these runs: the default one, or one of random weights that is quicker by far and as real."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.engine import built_bundle
from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.bundle.bundle import file_entry
from runtime.bundle.manifest import Manifest
from runtime.bundle.manifest_file import write_manifest
from runtime.executors.scripted import Script

TINY = "tiny"
SCRIPTED = "scripted"
"""No model: steps that take a fixed time and no processor, so that a busy machine makes no difference."""

_CHECKPOINTS = Path(__file__).parents[2] / "tests" / "tiny.py"
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>a\n"
)

_SCRIPT = Script(vocab_size=260, first_token=100, step_seconds=0.02, max_sequence_tokens=512)


@dataclass(frozen=True)
class Model:
    """What is served.

    Attributes:
        bundle: Path of the bundle.
        flags: What its server needs beside it.
        rate: Requests a second that overlap well on two cores.
        last_token: Largest id of an ordinary token.
    """

    name: str
    bundle: str
    rate: float
    last_token: int
    flags: tuple[str, ...] = ()


def model_of(name: str, folder: Path) -> Model:
    """A model by its name, built if need be; those that are no models of anybody's into ``folder``."""
    if name in (TINY, SCRIPTED):
        bundle = _tiny_bundle(folder / name)
        (bundle / "script.json").write_bytes(msgspec.json.encode(_SCRIPT))
        flags = ("--executor", "scripted") if name == SCRIPTED else ()
        return Model(name, str(bundle), rate=500.0, last_token=259, flags=flags)
    return Model(name, built_bundle(name), rate=30.0, last_token=40000)


def _tiny_bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    checkpoint = _tests_module().tiny_checkpoint("qwen3")
    compiled = compile_cpu(checkpoint, folder, CpuOptions(precision="int8"), lambda *_: None)
    (folder / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE)
    manifest = Manifest(
        name="tiny",
        source=checkpoint.source,
        architecture=checkpoint.architecture,
        target="cpu",
        target_versions=compiled.target_versions,
        precision=compiled.precision,
        kv=compiled.kv,
        eos_token_ids=checkpoint.eos_token_ids,
        files=tuple(file_entry(path) for path in sorted(folder.iterdir())),
    )
    write_manifest(folder, manifest)
    return folder


def _tests_module() -> Any:
    """The tests' maker of checkpoints, which is in no package."""
    spec = importlib.util.spec_from_file_location("tiny", _CHECKPOINTS)
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {_CHECKPOINTS} is missing: run this in a checkout")
    module = sys.modules.setdefault("tiny", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module
