"""The engine of a CUDA bundle: put together on a fake GPU, and refused where there is none."""

from __future__ import annotations

from pathlib import Path

import fake_sampling
import pytest
from fake_device import FakeDevice
from fake_onnxruntime import BLOCK, CACHES, HEAD_DIM, KV_HEADS, FakeOrt, ScriptedGraph
from toy_manifest import toy_manifest

from runtime.bundle import BundleError, KvLayout
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.bundle import file_entry
from runtime.bundle.gpu import Gpu
from runtime.bundle.manifest_file import write_manifest
from runtime.config import EngineConfig
from runtime.cuda.errors import CudaError
from runtime.engine import cuda_engine
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.engine.sizing import SizingError
from runtime.executors.scripted import Script, next_token, score_of
from runtime.messages import AddRequest, TokenOutput
from runtime.request import SamplingParams

MB = 2**20
SCRIPT = Script(vocab_size=97, block_size=BLOCK)
TOKEN_BYTES = len(CACHES) * KV_HEADS * HEAD_DIM * 2


def bundle(folder: Path, score_head: ScoreHead | None = None) -> Path:
    folder.mkdir()
    for name in ("model.onnx", "weights.bin", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    manifest = toy_manifest(
        score_head,
        vocab_size=97,
        target="cuda",
        target_versions={"onnxruntime": "1.31.1"},
        kv=KvLayout(kind="paged", block_size=BLOCK, dtype="float16", order="block,token,kv_head,dim"),
        files=tuple(file_entry(path) for path in sorted(folder.iterdir())),
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> FakeOrt:
    """A machine with a GPU and the package."""
    device = FakeDevice()
    fake_sampling.install(device)
    package = FakeOrt(device, ScriptedGraph(SCRIPT))
    monkeypatch.setattr(cuda_engine, "find_gpu", lambda: Gpu("Fake GPU", "9.0"))
    monkeypatch.setattr(cuda_engine, "open_device", lambda: device)
    monkeypatch.setattr(cuda_engine, "sampling_kernels", lambda _: b"cubin")
    monkeypatch.setattr(cuda_engine, "import_onnxruntime", lambda: package)
    return package


def config(path: Path, **wishes: object) -> EngineConfig:
    return EngineConfig(bundle=str(path), socket="s", **wishes)


def answer(core: EngineCore, prompt: list[int]) -> list[TokenOutput]:
    params = SamplingParams(max_new_tokens=4, ignore_eos=True)
    assert core.add(b"", AddRequest(1, prompt, params)) is None
    outputs: list[TokenOutput] = []
    while core.has_work:
        outputs += core.step().get(b"", [])
    return outputs


def test_it_answers(tmp_path: Path, ort: FakeOrt) -> None:
    core, lines = build_engine(config(bundle(tmp_path / "b")))
    tokens = [5, 6, 7]
    for output in answer(core, tokens):
        assert output.token_id == next_token(SCRIPT, tokens)
        tokens.append(output.token_id)
    assert len(tokens) == 7
    assert lines[0] == "model kestrel: fp32, onnxruntime 1.31.7 on Fake GPU (9.0)"
    assert "blocks of 4" in lines[1]
    assert core.executor.capabilities.prefix_sharing


def test_a_reward_model_scores(tmp_path: Path, ort: FakeOrt) -> None:
    script = Script(vocab_size=97, block_size=BLOCK, scores=True)
    ort.computation = ScriptedGraph(script)
    core, _ = build_engine(config(bundle(tmp_path / "b", ScoreHead())))
    assert answer(core, [5, 6, 7])[0].score == score_of(script, [5, 6, 7])


def test_blocks_take_most_of_what_the_largest_step_leaves(tmp_path: Path, ort: FakeOrt) -> None:
    core, _ = build_engine(config(bundle(tmp_path / "b")))
    held = sum(buffer.nbytes for buffer in ort.device.buffers)
    pools = core.limits.max_total_tokens * TOKEN_BYTES
    assert 0.85 * ort.device.total < pools < 0.9 * ort.device.total
    assert held < ort.device.total
    assert ort.device.named("run")[0][1] == core.limits.max_request_tokens, "one prompt that fills a step"


def test_what_the_package_keeps_for_its_runs_is_not_given_away(
    tmp_path: Path, ort: FakeOrt, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ort.InferenceSession

    def session(*arguments: object, **options: object) -> object:
        found = made(*arguments, **options)
        found.arena = 30 * MB
        return found

    monkeypatch.setattr(ort, "InferenceSession", session)
    core, _ = build_engine(config(bundle(tmp_path / "b")))
    assert core.limits.max_total_tokens * TOKEN_BYTES < 0.9 * (ort.device.total - 30 * MB)


def test_the_operators_wishes_are_kept(tmp_path: Path, ort: FakeOrt) -> None:
    wishes = {"max_total_tokens": 2000, "max_running": 3, "max_step_tokens": 40, "max_request_tokens": 100}
    limits = build_engine(config(bundle(tmp_path / "b"), **wishes))[0].limits
    assert (limits.max_total_tokens, limits.max_running) == (2000, 3)
    assert (limits.max_step_tokens, limits.max_request_tokens) == (40, 100)


def test_more_kv_than_fits_is_refused(tmp_path: Path, ort: FakeOrt) -> None:
    with pytest.raises(SizingError, match="max_total_token_num 1000000 needs 245 MB of KV cache"):
        build_engine(config(bundle(tmp_path / "b"), max_total_tokens=1_000_000))


def test_a_gpu_without_room_for_a_block_is_refused(tmp_path: Path, ort: FakeOrt) -> None:
    ort.device.total = 5000
    with pytest.raises(SizingError, match="a KV block of 4 tokens needs 1 MB, 1 MB of GPU memory may be used"):
        build_engine(config(bundle(tmp_path / "b"), memory_fraction=0.1))


def test_requests_are_as_long_as_the_blocks_allow(tmp_path: Path, ort: FakeOrt) -> None:
    limits = build_engine(config(bundle(tmp_path / "b"), max_total_tokens=100))[0].limits
    assert (limits.max_total_tokens, limits.max_request_tokens) == (100, 92)


def test_without_a_gpu_it_is_one_line(tmp_path: Path, ort: FakeOrt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_engine, "find_gpu", lambda: "no NVIDIA driver")
    with pytest.raises(BundleError) as caught:
        build_engine(config(bundle(tmp_path / "b")))
    assert str(caught.value) == (
        "a bundle for target cuda: this machine has no NVIDIA driver; need: a GPU of compute capability 8.0 or later; "
        "fix: python -m build_engine build smollm2-135m-instruct --target cpu"
    )


def test_a_largest_step_that_does_not_run_is_one_line(
    tmp_path: Path, ort: FakeOrt, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ort.InferenceSession

    def session(*arguments: object, **options: object) -> object:
        found = made(*arguments, **options)
        found.fail_next = True
        return found

    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(
        BundleError, match=r"cannot run a step of 128 tokens: .*it fails here; .*batch_max_tokens"
    ) as caught:
        build_engine(config(bundle(tmp_path / "b")))
    assert "\n" not in str(caught.value)


def test_a_gpu_that_fails_is_one_line(tmp_path: Path, ort: FakeOrt) -> None:
    ort.device.fail_at = 2
    with pytest.raises(BundleError, match="the GPU cannot take the engine") as caught:
        build_engine(config(bundle(tmp_path / "b")))
    assert isinstance(caught.value.__cause__, CudaError)
