"""The end of the graph: logits over the vocabulary, or a reward model's score."""

from __future__ import annotations

import numpy as np

from build_engine.checkpoint import Checkpoint
from build_engine.graph.builder import GraphBuilder
from build_engine.graph.linear import FloatLinears, Linears
from build_engine.graph.names import head_name
from runtime.bundle.architecture import ScoreHead


def declare_head(graph: GraphBuilder, checkpoint: Checkpoint, linears: Linears, normed: str) -> None:
    """Emits the head that the architecture has and declares its output.

    Args:
        graph: Takes the nodes.
        checkpoint: Has the head's tensors.
        linears: Precision of an output head; a score head is float32 always.
        normed: The final norm's output, float32 ``[R, H]``.
    """
    architecture = checkpoint.architecture
    if architecture.score_head is None:
        _logits(graph, checkpoint, linears, normed)
        graph.output("logits", np.float32, ["rows", architecture.vocab_size])
    else:
        _score(graph, checkpoint, architecture.score_head, normed)
        graph.output("score", np.float32, ["rows"])


def _logits(graph: GraphBuilder, checkpoint: Checkpoint, linears: Linears, normed: str) -> None:
    architecture = checkpoint.architecture
    head, cap = checkpoint.tensors[head_name(architecture)], architecture.logits_softcap
    product = linears.linear(graph, normed, [head], None, "logits.uncapped" if cap else "logits")
    if cap:
        limit = graph.vector("logits.softcap", np.array([cap], np.float32))
        shrunk = graph.node("Div", [product, limit], "logits.shrunk")
        bent = graph.node("Tanh", [shrunk], "logits.bent")
        graph.node("Mul", [bent, limit], "logits")


def _score(graph: GraphBuilder, checkpoint: Checkpoint, head: ScoreHead, normed: str) -> None:
    """One linear layer, or two with ReLU between them.

    NOTE: not quantised: the one number that a model gives is worth the few weights of its head.
    """
    if head.hidden_size:
        hidden = _affine(graph, checkpoint, head, "score.0", normed)
        normed = graph.node("Relu", [hidden], "score.1.out")
    column = _affine(graph, checkpoint, head, "score.2" if head.hidden_size else "score", normed)
    graph.node("Squeeze", [column, graph.vector("score.axis", np.array([1], np.int64))], "score")


def _affine(graph: GraphBuilder, checkpoint: Checkpoint, head: ScoreHead, name: str, x: str) -> str:
    bias = checkpoint.tensors[f"{name}.bias"].float32().reshape(-1) if head.bias else None
    return FloatLinears().linear(graph, x, [checkpoint.tensors[f"{name}.weight"]], bias, f"{name}.out")
