"""Manifests of models that were never built, for what reads no more of a bundle than its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.bundle import Architecture, KvLayout, Manifest, Source
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.bundle import CHAT_TEMPLATE_FILE, file_entry
from runtime.bundle.manifest_file import write_manifest

CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKER = 7
PADDING = 8


def toy_manifest(score_head: ScoreHead | None = None, vocab_size: int = 262, **changes: Any) -> Manifest:
    """The manifest of a model, by default of one that generates text."""
    architecture = Architecture(
        family="internlm2" if score_head else "llama",
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        context_length=128,
        score_head=score_head,
    )
    values: dict[str, Any] = {
        "name": "kestrel",
        "source": Source(kind="huggingface", name="kestrel", path="/models/kestrel", digest="ab" * 32),
        "architecture": architecture,
        "target": "cpu",
        "target_versions": {"onnxruntime": "1"},
        "precision": "fp32",
        "kv": KvLayout(),
        "eos_token_ids": (0,),
    }
    return Manifest(**(values | changes))


def write_reward_manifest(bundle: Path, template: str | None = CHATML) -> None:
    """Make ``bundle`` a reward model's, whose chats end with ``MARKER`` and are padded with ``PADDING``."""
    if template is not None:
        (bundle / CHAT_TEMPLATE_FILE).write_text(template)
    head = ScoreHead(marker_token_id=MARKER, pad_token_id=PADDING)
    write_manifest(bundle, toy_manifest(head, special_tokens={"bos_token": "<eos>"}))


def write_openable_bundle(directory: Path, score_head: ScoreHead | None = None) -> Path:
    """A bundle that passes every check of its files; there is no model in them."""
    directory.mkdir(parents=True)
    for name in ("model.onnx", "weights.bin", "tokenizer.json"):
        (directory / name).write_bytes(b"{}")
    files = tuple(file_entry(path) for path in sorted(directory.iterdir()))
    write_manifest(directory, toy_manifest(score_head, files=files))
    return directory
