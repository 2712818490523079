from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cuda_graph import numpy_step, write_cuda_graph
from paged import PagedSequences, engine_step, feed_in_chunks, forward
from tiny import tiny_checkpoint

from runtime.bundle.architecture import ScoreHead


@pytest.mark.parametrize("element", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("encoding", "precision"), [("f32", "int8"), ("f32", "int4"), ("q8_0", "import"), ("q4_0", "import")]
)
def test_quantised_weights_are_the_same_numbers_in_both_graphs(
    tmp_path: Path, encoding: str, precision: str, element: str
) -> None:
    checkpoint, tokens = tiny_checkpoint("qwen2", encoding=encoding), list(range(20, 44))
    found = forward(numpy_step(write_cuda_graph(checkpoint, tmp_path, element, precision)), tokens)
    write_cuda_graph(checkpoint, tmp_path, element, precision, oracle=True)
    wanted = forward(engine_step(tmp_path), tokens)
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < {"float16": 0.01, "bfloat16": 0.08}[element]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_chunks_and_neighbours_change_nothing_but_rounding(tmp_path: Path, family: str) -> None:
    checkpoint = tiny_checkpoint(family)
    path, tokens = write_cuda_graph(checkpoint, tmp_path), list(range(30, 54))
    whole = forward(numpy_step(path), tokens)
    np.testing.assert_allclose(feed_in_chunks(numpy_step(path), tokens, 5), whole, atol=0.05)
    sequences = PagedSequences(numpy_step(path))
    parts = [
        sequences.feed({"other": [9] * (index + 1), "mine": tokens[index * 6 : index * 6 + 6], "third": [7]})["mine"]
        for index in range(4)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=0.05)


@pytest.mark.parametrize("element", ["float16", "bfloat16"])
@pytest.mark.parametrize("precision", ["", "int4"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "phi3", "reward"])
def test_onnxruntime_finds_nothing_wrong_but_that_it_has_no_kernels_here(
    tmp_path: Path, family: str, element: str, precision: str
) -> None:
    """Types, shapes and attributes are checked first; float16 it tries then to make float32, for want of kernels."""
    head = {"score_head": ScoreHead(hidden_size=24, bias=True)} if family == "reward" else {}
    checkpoint = tiny_checkpoint("qwen2" if family == "reward" else family, **head)
    path = write_cuda_graph(checkpoint, tmp_path, element, precision)
    late = {"float16": r"\(InsertedPrecisionFreeCast_layers.0.qkv\w*\) of operator \(PagedAttention\)"}
    with pytest.raises(Exception, match=late.get(element, "NOT_IMPLEMENTED : Could not find an implementation")):
        _open(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda node: node.attribute.remove(node.attribute[1]), "attribute"),
        (lambda node: node.attribute[0].__setattr__("name", "heads"), "heads"),
        (lambda node: node.input.__setitem__(5, "token_ids"), r"tensor\(int64\)"),
        (lambda node: node.input.append("past_lens"), "input"),
    ],
)
def test_onnxruntime_would_notice_a_mistake(
    tmp_path: Path, change: Callable[[onnx.NodeProto], None], complaint: str
) -> None:
    path = write_cuda_graph(tiny_checkpoint(), tmp_path, "bfloat16")
    model = onnx.load(path, load_external_data=False)
    change(next(node for node in model.graph.node if node.op_type == "PagedAttention"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match=f"INVALID_GRAPH.*{complaint}"):
        _open(path)


def test_onnxruntime_would_notice_a_wrong_type(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"Type 'tensor\(float\)' of input parameter .* PagedAttention|INVALID_GRAPH"):
        _open(write_cuda_graph(tiny_checkpoint(), tmp_path, "float32"))


def _open(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
