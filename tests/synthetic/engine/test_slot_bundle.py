"""The engine of a bundle with linear slots, on the CPU."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from slot_graph import write_slot_graph
from tiny import tiny_checkpoint, tiny_weights

from runtime.bundle import BundleError, KvLayout
from runtime.bundle.bundle import file_entry
from runtime.bundle.manifest import Manifest
from runtime.bundle.manifest_file import read_manifest, write_manifest
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.executors.host import HostExecutor
from runtime.executors.reference import ReferenceModel
from runtime.messages import AddRequest
from runtime.request import SamplingParams

CAPACITY = 65


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "slots"
    folder.mkdir()
    checkpoint = tiny_checkpoint("llama")
    write_slot_graph(checkpoint, folder, CAPACITY)
    (folder / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    manifest = Manifest(
        name="tiny-slots",
        source=checkpoint.source,
        architecture=checkpoint.architecture,
        target="cpu",
        target_versions={},
        precision="fp32",
        kv=KvLayout(kind="linear", block_size=CAPACITY, dtype="float32", order="slot,kv_head,token,dim"),
        eos_token_ids=checkpoint.eos_token_ids,
        limits={"slots": 6, "max_step_tokens": 16, "context_length": CAPACITY - 1},
        files=tuple(file_entry(path) for path in sorted(folder.iterdir())),
    )
    write_manifest(folder, manifest)
    return folder


def config(bundle: Path, **wishes: object) -> EngineConfig:
    return EngineConfig(bundle=str(bundle), socket="s", threads=2, **wishes)


def answers(core: EngineCore) -> dict[int, list[int]]:
    collected: dict[int, list[int]] = {}
    for number in range(9):
        params = SamplingParams(max_new_tokens=8, ignore_eos=True)
        assert core.add(b"", AddRequest(number, list(range(4 + number, 24 + 3 * number)), params)) is None
    while core.has_work:
        for output in core.step().get(b"", []):
            collected.setdefault(output.request_id, []).append(output.token_id)
        assert core.check() == []
    return collected


def test_it_answers_as_the_reference_does(bundle: Path) -> None:
    core, lines = build_engine(config(bundle))
    assert (core.limits.max_running, core.limits.max_request_tokens, core.limits.max_step_tokens) == (6, 64, 16)
    assert lines[0] == "model tiny-slots: fp32, 2 threads"
    assert "6 linear slots of 65" in lines[1]
    assert lines[1].endswith("prefix cache off")
    capabilities = core.executor.capabilities
    assert (capabilities.num_blocks, capabilities.block_size, capabilities.max_rows) == (6, CAPACITY, 6)
    assert not capabilities.prefix_sharing
    checkpoint = tiny_checkpoint("llama")
    reference = ReferenceModel(checkpoint.architecture, tiny_weights(checkpoint), num_blocks=6, block_size=CAPACITY)
    executor = HostExecutor(
        reference, eos_token_ids=frozenset(), max_rows=6, max_step_tokens=16, max_logit_rows=70, max_sequence_tokens=64
    )
    want = answers(EngineCore(executor, core.limits, core.scheduler.policy))
    assert answers(core) == want
    core.executor.close()


def test_fewer_slots_can_be_wished_for(bundle: Path) -> None:
    core, _ = build_engine(config(bundle, max_running=2))
    assert core.executor.capabilities.num_blocks == 2
    core.executor.close()


def test_a_manifest_that_does_not_tell_its_slots_is_refused(bundle: Path) -> None:
    manifest = msgspec.structs.replace(read_manifest(bundle), limits={"context_length": 64})
    write_manifest(bundle, manifest)
    with pytest.raises(BundleError, match="does not say its max_step_tokens, slots"):
        build_engine(config(bundle))
