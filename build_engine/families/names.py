"""Canonical tensor names and shapes: what a checkpoint of an architecture has to hold."""

from __future__ import annotations

from runtime.bundle.architecture import Architecture, ScoreHead

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def expected_tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that a checkpoint of ``architecture`` holds, by canonical name.

    The names are those of Hugging Face's Llama; what Llama has not is named after what it follows.
    """
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING: (architecture.vocab_size, architecture.hidden_size),
        FINAL_NORM: (architecture.hidden_size,),
    }
    if architecture.score_head is not None:
        shapes |= _score_tensors(architecture.score_head, architecture.hidden_size)
    elif not architecture.tied_embeddings:
        shapes[HEAD] = (architecture.vocab_size, architecture.hidden_size)
    layer = _layer_tensors(architecture)
    for index in range(architecture.num_layers):
        shapes.update({f"model.layers.{index}.{name}": shape for name, shape in layer.items()})
    return shapes


def _layer_tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    hidden, inner, dim = architecture.hidden_size, architecture.intermediate_size, architecture.head_dim
    queries, keys = architecture.num_heads * dim, architecture.num_kv_heads * dim
    matrices = {
        "self_attn.q_proj": (queries, hidden, architecture.attention_bias),
        "self_attn.k_proj": (keys, hidden, architecture.attention_bias),
        "self_attn.v_proj": (keys, hidden, architecture.attention_bias),
        "self_attn.o_proj": (hidden, queries, architecture.output_bias),
        "mlp.gate_proj": (inner, hidden, architecture.mlp_bias),
        "mlp.up_proj": (inner, hidden, architecture.mlp_bias),
        "mlp.down_proj": (hidden, inner, architecture.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    if architecture.qk_norm:
        shapes |= {"self_attn.q_norm.weight": (dim,), "self_attn.k_norm.weight": (dim,)}
    if architecture.output_norms:
        shapes |= {"self_attn.output_norm.weight": (hidden,), "mlp.output_norm.weight": (hidden,)}
    for module, (rows, columns, bias) in matrices.items():
        shapes[f"{module}.weight"] = (rows, columns)
        if bias:
            shapes[f"{module}.bias"] = (rows,)
    return shapes


def _score_tensors(head: ScoreHead, hidden: int) -> dict[str, tuple[int, ...]]:
    if head.hidden_size:
        layers = {"score.0": (head.hidden_size, hidden), "score.2": (1, head.hidden_size)}
    else:
        layers = {"score": (1, hidden)}
    weights: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in layers.items()}
    biases = {f"{name}.bias": shape[:1] for name, shape in layers.items()} if head.bias else {}
    return weights | biases
