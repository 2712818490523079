"""The default model for engines that cannot read its GGUF file: a Hugging Face directory of its exact weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from benchmarks.peers.errors import PeerError
from build_engine.checkpoint import Checkpoint
from build_engine.sources import resolve_source


def write_huggingface(spec: str, folder: Path) -> None:
    """Write the checkpoint that ``spec`` names into ``folder``, dequantised to float32.

    Raises:
        PeerError: It is not of the one family that is written here.
    """
    checkpoint = resolve_source(spec).open()
    config = llama_config(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.float32() for name, tensor in checkpoint.tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    special = {name: token for name, token in checkpoint.special_tokens.items() if name.endswith("_token")}
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    for name, content in (
        ("config.json", config),
        ("tokenizer_config.json", tokenizer),
        ("generation_config.json", {"eos_token_id": config["eos_token_id"], "bos_token_id": config["bos_token_id"]}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def llama_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """``config.json`` of a plain Llama model."""
    architecture = checkpoint.architecture
    if architecture.family != "llama" or architecture.rope_scaling or architecture.rope_dim:
        raise PeerError(f"only plain Llama models are converted for peers, not {architecture.family}")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_dim": architecture.head_dim,
        "max_position_embeddings": architecture.context_length,
        "rms_norm_eps": architecture.norm_eps,
        "rope_theta": architecture.rope_theta,
        "hidden_act": "silu",
        "attention_bias": architecture.attention_bias,
        "mlp_bias": architecture.mlp_bias,
        "tie_word_embeddings": architecture.tied_embeddings,
        "bos_token_id": max(checkpoint.bos_token_id, 0),
        "eos_token_id": checkpoint.eos_token_ids[0],
    }
