"""The engine that a configuration asks for, from a tiny bundle and from a script."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from gguf_files import model_file
from tiny import tiny_checkpoint

from build_engine.build import build_bundle
from build_engine.options import BuildOptions
from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.bundle import BundleError
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.bundle import file_entry
from runtime.bundle.manifest import Manifest
from runtime.bundle.manifest_file import read_manifest, write_manifest
from runtime.config import EngineConfig
from runtime.engine import cuda_engine, factory
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.executors.scripted import Script
from runtime.messages import AddRequest
from runtime.native import NativeLibraryError
from runtime.request import SamplingParams
from runtime.scheduler import Aggressive, FuturePeak, MeasuredSpeculation, PastFuture


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEREGRINE_CACHE", str(folder / "cache"))
        return build_bundle(str(model_file().write(folder / "tiny.gguf")), BuildOptions(verify=False))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.json"
    path.write_bytes(msgspec.json.encode(Script(max_sequence_tokens=64)))
    return path


@pytest.fixture
def reward_bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "reward"
    folder.mkdir()
    checkpoint = tiny_checkpoint("internlm2", score_head=ScoreHead())
    compiled = compile_cpu(checkpoint, folder, CpuOptions(precision="int8"), lambda *_: None)
    (folder / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    manifest = Manifest(
        name="tiny-reward",
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


def scripted(script: Path, **wishes: object) -> EngineCore:
    return build_engine(EngineConfig(bundle=str(script), socket="s", executor="scripted", **wishes))[0]


def answer(core: EngineCore, prompt: list[int]) -> list[tuple[int, float]]:
    assert core.add(b"", AddRequest(1, prompt, SamplingParams(max_new_tokens=6, ignore_eos=True))) is None
    outputs = []
    while core.has_work:
        outputs += core.step()[b""]
    return [(output.token_id, output.logprob) for output in outputs]


def test_a_bundles_engine_has_its_models_limits_and_answers(bundle: Path) -> None:
    core, lines = build_engine(EngineConfig(bundle=str(bundle), socket="s", threads=2, max_running=3))
    manifest = read_manifest(bundle)
    assert core.limits.vocab_size == manifest.architecture.vocab_size
    assert core.limits.max_request_tokens == manifest.architecture.context_length
    assert core.limits.eos_token_ids == manifest.eos_token_ids
    assert core.limits.max_running == 3
    assert core.executor.capabilities.max_logit_rows == 3 + 64
    assert core.executor.capabilities.num_blocks * 16 == core.limits.max_total_tokens
    assert lines[0] == f"model {manifest.name}: {manifest.precision}, 2 threads"
    first = answer(core, [5, 6, 7])
    assert len(first) == 6
    assert answer(core, [5, 6, 7]) == first
    core.executor.close()


def test_a_reward_models_bundle_gives_scores(reward_bundle: Path) -> None:
    core, lines = build_engine(EngineConfig(bundle=str(reward_bundle), socket="s", threads=2, max_step_tokens=5))
    assert core.limits.scores
    assert core.limits.vocab_size == read_manifest(reward_bundle).architecture.vocab_size
    assert "reward model: scores instead of text" in lines
    answers = []
    for number in (1, 2):
        assert core.add(b"", AddRequest(number, list(range(4, 40)), SamplingParams())) is None
        while core.has_work:
            answers += core.step().get(b"", [])
    first, second = answers
    assert first.score == second.score is not None
    assert (first.cached_tokens, second.cached_tokens) == (0, 32)
    core.executor.close()


def test_a_model_that_writes_is_no_reward_model(script: Path) -> None:
    core, lines = build_engine(EngineConfig(bundle=str(script), socket="s", executor="scripted"))
    assert not core.limits.scores
    assert not any("reward" in line for line in lines)


def test_a_machine_that_does_not_tell_its_memory_runs_a_bundle_too(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "available_memory", lambda: None)
    core, _ = build_engine(EngineConfig(bundle=str(bundle), socket="s"))
    assert core.limits.max_total_tokens >= core.limits.max_request_tokens


def test_a_bundle_for_a_gpu_is_refused_where_there_is_none(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_engine, "find_gpu", lambda: "no NVIDIA driver")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).hardlink_to(file)
    (copy / "manifest.json").unlink()
    write_manifest(copy, msgspec.structs.replace(read_manifest(bundle), target="cuda"))
    with pytest.raises(
        BundleError, match=r"target cuda: this machine has no NVIDIA driver; need: a GPU .*; fix: .* --target cpu"
    ):
        build_engine(EngineConfig(bundle=str(copy), socket="s"))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        build_engine(EngineConfig(bundle=str(tmp_path / "nowhere"), socket="s"))


def test_the_admission_policy_is_the_configurations(script: Path) -> None:
    assert isinstance(scripted(script).scheduler.policy, PastFuture)
    assert scripted(script, admission="future_peak").scheduler.policy == FuturePeak()
    optimistic = scripted(script, admission="future_peak", token_ratio=0.7, router_max_new_tokens=50)
    assert optimistic.scheduler.policy == FuturePeak(token_ratio=0.7, assumed_new_tokens=50)
    assert scripted(script, admission="aggressive").scheduler.policy == Aggressive()


def test_the_prefix_cache_can_be_off(script: Path) -> None:
    assert [scripted(script, prefix_cache=wish).scheduler.kv.prefix_cache for wish in (True, False)] == [True, False]


def test_speculation_can_be_off(script: Path) -> None:
    assert isinstance(scripted(script).scheduler.speculation, MeasuredSpeculation)
    assert scripted(script, speculation="off").scheduler.speculation is None


def test_an_executor_that_takes_no_drafts_gets_none(script: Path) -> None:
    script.write_bytes(msgspec.json.encode(Script(max_sequence_tokens=64, scores=True)))
    assert scripted(script).scheduler.speculation is None


def test_a_scripts_capacity_can_be_chosen(script: Path) -> None:
    assert scripted(script).limits.max_total_tokens == 8 * 64
    assert scripted(script, max_total_tokens=100).limits.max_total_tokens == 112, "whole blocks"


def test_without_the_native_library_numpy_samples_the_same_tokens(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise NativeLibraryError("the library is missing")

    with_it, quiet = build_engine(EngineConfig(bundle=str(bundle), socket=""))
    monkeypatch.setattr(factory, "NativeSampler", missing)
    without_it, lines = build_engine(EngineConfig(bundle=str(bundle), socket=""))
    assert [line for line in lines if line not in quiet] == [
        "sampling without native code, which is slower: the library is missing"
    ]
    assert [token for token, _ in answer(without_it, [3, 4, 5])] == [token for token, _ in answer(with_it, [3, 4, 5])]
