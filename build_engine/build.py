"""Builds a bundle: source -> checkpoint -> engine -> verification -> manifest, published at once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from build_engine.bundle_key import bundle_name
from build_engine.errors import BuildError, missing_package
from build_engine.options import BuildOptions, Profile, complete
from build_engine.progress import Progress
from build_engine.publish import publishing, remove_leftovers, staged
from build_engine.resources import free_disk, peak_memory
from build_engine.sources import CheckpointSource, resolve_source
from runtime.bundle.bundle import (
    CHAT_TEMPLATE_FILE,
    GENERATION_CONFIG_FILE,
    TOKENIZER_FILE,
    file_entry,
    open_bundle,
)
from runtime.bundle.cache import bundles_root
from runtime.bundle.errors import BundleError
from runtime.bundle.manifest import KvLayout, Manifest, ScoreVerification, Verification
from runtime.bundle.manifest_file import MANIFEST_FILE, write_manifest
from runtime.bundle.stamp import take_stamp, write_stamp
from runtime.memory import available_memory

if TYPE_CHECKING:
    from build_engine.checkpoint import Checkpoint
    from build_engine.plan import BuildPlan
    from build_engine.targets.compiled import CompiledEngine


@dataclass(frozen=True, slots=True)
class Job:
    """A build that is fully described, and where its bundle goes.

    Attributes:
        name: Of the model in the manifest.
        key: Of the manifest.
        target: The bundle's directory.
    """

    source: CheckpointSource
    options: BuildOptions
    profile: Profile
    name: str
    key: str
    target: Path


def build_bundle(spec: str, options: BuildOptions | None = None, progress: Progress | None = None) -> Path:
    """Build the bundle of ``spec`` unless it exists, and return its directory.

    Args:
        spec: Recipe name, recipe file, GGUF file or Hugging Face directory.
        options: What they leave open is taken from the recipe.
        progress: Told what goes on.

    Raises:
        BuildError: The build cannot go on; nothing is left behind.
    """
    progress = progress or Progress()
    return run_job(prepare(spec, options or BuildOptions(), progress), progress)


def prepare(spec: str, options: BuildOptions, progress: Progress) -> Job:
    """Find the source of ``spec`` (downloading it the first time) and where its bundle belongs.

    Raises:
        BuildError: There is no such source, or an option cannot be met.
    """
    source = resolve_source(spec, progress)
    profile = complete(options, source.defaults)
    name = options.name or source.name
    key = bundle_name(name, source.digest(progress), profile)
    target = options.output.absolute() if options.output else bundles_root() / key
    return Job(source, options, profile, name, key, target)


def existing_bundle(job: Job) -> Path | None:
    """The bundle of ``job``, if it was built already, is intact and as verified as wished, and no new one is forced."""
    if job.options.force:
        return None
    try:
        found = open_bundle(job.target)
    except BundleError:
        return None
    return job.target if found.manifest.key == job.key and _as_verified(job, found.manifest) else None


def _as_verified(job: Job, manifest: Manifest) -> bool:
    found = manifest.engine.oracle if manifest.engine is not None else manifest.verification
    return found is not None or not job.options.verify


def run_job(job: Job, progress: Progress) -> Path:
    """Build the bundle of ``job`` unless it exists; processes that want the same one wait for the first.

    Raises:
        BuildError: The build cannot go on; nothing is left behind.
    """
    if existing_bundle(job) is not None:
        return job.target
    try:
        if job.target.parent.is_dir():
            remove_leftovers(job.target.parent)
        with publishing(job.target, progress):
            if existing_bundle(job) is None:
                _build(job, progress)
    except OSError as error:
        raise BuildError(f"{error.filename or job.target}: {error.strerror or error}") from None
    except MemoryError:
        raise BuildError(f"{job.source.path}: the memory does not suffice; --plan shows what is needed") from None
    return job.target


def plan_job(job: Job, checkpoint: Checkpoint) -> BuildPlan:
    """What the build of ``job`` will take and give."""
    from build_engine.plan import plan_build

    return plan_build(
        checkpoint,
        job.profile,
        verify=job.options.verify,
        free_disk=free_disk(job.target.parent),
        free_memory=available_memory(),
    )


def _build(job: Job, progress: Progress) -> None:
    started = time.monotonic()
    checkpoint = job.source.open(progress)
    plan = plan_job(job, checkpoint)
    plan.check()
    with staged(job.target) as staging:
        compiled = _compile(job, plan, checkpoint, staging, progress)
        _write_texts(checkpoint, staging)
        # NOTE: a compiler's engine may need a GPU to run: it was checked before, as far as that goes.
        checked = job.options.verify and compiled.engine is None
        verification = _verify(checkpoint, staging, compiled.kv, progress) if checked else None
        manifest = Manifest(
            name=job.name,
            key=job.key,
            source=msgspec.structs.replace(checkpoint.source, spec=job.source.spec),
            architecture=checkpoint.architecture,
            target=job.profile.target,
            target_versions=compiled.target_versions,
            precision=compiled.precision,
            rotated=plan.rotated,
            kv=compiled.kv,
            eos_token_ids=checkpoint.eos_token_ids,
            bos_token_id=checkpoint.bos_token_id,
            special_tokens=checkpoint.special_tokens,
            limits=compiled.limits,
            files=tuple(file_entry(path) for path in sorted(staging.iterdir())),
            build_seconds=round(time.monotonic() - started, 3),
            build_peak_bytes=peak_memory(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            verification=verification,
            engine=compiled.engine,
        )
        write_manifest(staging, manifest)
        write_stamp(staging, take_stamp(staging, [MANIFEST_FILE, *(entry.name for entry in manifest.files)]))


def _compile(job: Job, plan: BuildPlan, checkpoint: Checkpoint, staging: Path, progress: Progress) -> CompiledEngine:
    try:
        from build_engine.passes import refusal, rotated
        from build_engine.targets.choose import compile_engine
    except ImportError as error:
        raise missing_package(error) from None

    def oracle(directory: Path, kv: KvLayout) -> Verification | ScoreVerification:
        return _verify(checkpoint, directory, kv, progress)

    if plan.precision == "int8" and job.profile.rotate and not plan.rotated:
        progress.note(f"not rotated: {refusal(checkpoint.architecture)}")
    model = rotated(checkpoint) if plan.rotated else checkpoint
    check = oracle if job.options.verify else None
    return compile_engine(model, staging, job.profile, plan, check, progress)


def _verify(
    checkpoint: Checkpoint, staging: Path, kv: KvLayout, progress: Progress
) -> Verification | ScoreVerification:
    from build_engine.verify import verify_bundle

    return verify_bundle(staging, checkpoint, kv.block_size, progress, kind=kv.kind)


def _write_texts(checkpoint: Checkpoint, staging: Path) -> None:
    """Write the files that the HTTP side reads."""
    texts = {GENERATION_CONFIG_FILE: json.dumps(checkpoint.generation_config, indent=2, ensure_ascii=False) + "\n"}
    if checkpoint.chat_template is not None:
        texts[CHAT_TEMPLATE_FILE] = checkpoint.chat_template
    (staging / TOKENIZER_FILE).write_bytes(checkpoint.tokenizer_json)
    for name, text in texts.items():
        try:
            (staging / name).write_text(text, "utf-8")
        except UnicodeEncodeError:
            raise BuildError(f"{checkpoint.source.path}: {name} holds half of a surrogate pair, no character") from None
