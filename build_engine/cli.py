"""``python -m build_engine``: build, inspect and verify engine bundles."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from build_engine.build import existing_bundle, plan_job, prepare, run_job
from build_engine.errors import BuildError
from build_engine.options import (
    DEFAULT_CAPABILITIES,
    KV_KINDS,
    SLOT_PRECISIONS,
    BuildOptions,
)
from build_engine.progress import Progress, make_progress
from build_engine.publish import link
from build_engine.recipes import KV_DTYPES, list_recipes
from build_engine.report import manifest_lines, result_lines, verification_lines
from runtime.bundle.bundle import open_bundle
from runtime.bundle.errors import BundleError
from runtime.bundle.locate import alias_name, find_bundle
from runtime.bundle.target import AUTO, TARGETS, choose_target

_USER_ERROR = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``.

    Returns:
        Exit status: 0, 2 for a mistake that the message explains, 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    progress = make_progress(quiet=getattr(arguments, "quiet", False))
    try:
        with _terminable():
            status: int = arguments.run(arguments, progress)
            return status
    except (BuildError, BundleError) as error:
        progress.close()
        sys.stderr.write(f"error: {error}\n")
        return _USER_ERROR
    except OSError as error:
        progress.close()
        sys.stderr.write(f"error: {error.filename or 'the system'}: {error.strerror or error}\n")
        return _USER_ERROR
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write("error: interrupted; nothing was published\n")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m build_engine", description="Build and look after engine bundles.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build the bundle of a model, unless it exists")
    build.set_defaults(run=_build)
    build.add_argument("spec", help="recipe name, recipe file, GGUF file or Hugging Face directory")
    build.add_argument(
        "--target", default=AUTO, help=f"what the engine runs on: {', '.join(TARGETS)} (default: what is here)"
    )
    build.add_argument("--precision", choices=SLOT_PRECISIONS, help="of the weights (default: the recipe's, else auto)")
    build.add_argument(
        "--no-rotate", dest="rotate", action="store_false", help="quantise to int8 without rotating the model first"
    )
    build.add_argument("--kv", choices=KV_KINDS, help="KV cache: blocks or a slot a sequence (default: the target's)")
    build.add_argument("--kv-dtype", choices=KV_DTYPES, help="of a paged cache (default: the recipe's, else bfloat16)")
    build.add_argument("--block-size", type=int, help="tokens in a KV block (default: 16, target cuda: 256)")
    _add_slots(build)
    build.add_argument("--name", help="of the model (default: the recipe's or the file's)")
    build.add_argument("--output", type=Path, help="directory of the bundle (default: one in the cache)")
    build.add_argument("--plan", action="store_true", help="say what the build would take and give, and stop")
    build.add_argument("--no-verify", dest="verify", action="store_false", help="skip the check against float32")
    build.add_argument("--force", action="store_true", help="build even if the bundle exists")
    build.add_argument("--print-path", action="store_true", help="write the bundle's path, and only that, to stdout")
    build.add_argument("--quiet", action="store_true", help="say nothing but errors")
    inspect = commands.add_parser("inspect", help="show what a bundle is")
    inspect.set_defaults(run=_inspect)
    verify = commands.add_parser("verify", help="check a bundle's digests, and its engine against the checkpoint")
    verify.set_defaults(run=_verify)
    verify.add_argument("--quiet", action="store_true", help="say nothing but the result")
    for command in (inspect, verify):
        command.add_argument("bundle", help="directory of a bundle, or the name of a built model")
    models = commands.add_parser("models", help="list the recipes")
    models.set_defaults(run=_models)
    return parser


def _add_slots(build: argparse.ArgumentParser) -> None:
    group = build.add_argument_group("linear KV slots and TensorRT")
    group.add_argument("--slots", type=int, default=8, help="sequences at once (default: 8)")
    group.add_argument("--max-seq-len", type=int, metavar="N", help="tokens of one (default: the context, up to 2048)")
    group.add_argument("--chunk", type=int, default=256, help="tokens of the longest prefill run (default: 256)")
    group.add_argument(
        "--compute-capability",
        nargs="+",
        metavar="X.Y",
        help=f"GPUs to compile for (default: this machine's, else {' '.join(DEFAULT_CAPABILITIES)})",
    )
    group.add_argument("--keep-onnx", action="store_true", help="leave the graph beside the plan")


def _build(arguments: argparse.Namespace, progress: Progress) -> int:
    target = choose_target(arguments.target)
    options = _options(arguments, target.name)
    job = prepare(arguments.spec, options, progress)
    built = existing_bundle(job) is None
    if arguments.target == AUTO and built:
        progress.note(f"target {target.name}: {target.reason}")
    if arguments.plan:
        plan = plan_job(job, job.source.open(progress))
        progress.close()
        _say(*plan.lines())
        plan.check()
        return 0
    path = run_job(job, progress)
    progress.close()
    if options.output is None and Path("models").is_dir():
        kind = "paged" if job.profile.linear is None else "linear"
        alias = Path("models") / job.name / alias_name(job.profile.target, kind)
        if not link(path, alias):
            progress.note(f"{alias} cannot be made a link to the bundle")
    if arguments.print_path:
        _say(str(path))
    elif not arguments.quiet:
        manifest = open_bundle(path).manifest
        _say(f"{'built' if built else 'exists already'}: {path}", *result_lines(manifest))
    return 0


def _options(arguments: argparse.Namespace, target: str) -> BuildOptions:
    capabilities = arguments.compute_capability
    return BuildOptions(
        target=target,
        precision=arguments.precision,
        rotate=arguments.rotate,
        kv=arguments.kv,
        slots=arguments.slots,
        max_seq_len=arguments.max_seq_len,
        chunk=arguments.chunk,
        compute_capabilities=tuple(capabilities) if capabilities else None,
        keep_onnx=arguments.keep_onnx,
        kv_dtype=arguments.kv_dtype,
        block_size=arguments.block_size,
        name=arguments.name,
        output=arguments.output,
        verify=arguments.verify,
        force=arguments.force,
    )


def _inspect(arguments: argparse.Namespace, _: Progress) -> int:
    bundle = open_bundle(find_bundle(arguments.bundle))
    _say(*manifest_lines(bundle))
    return 0


def _verify(arguments: argparse.Namespace, progress: Progress) -> int:
    bundle = open_bundle(find_bundle(arguments.bundle), verify=True)
    _say(f"{len(bundle.manifest.files)} files have the digests of the manifest")
    from build_engine.recheck import recheck

    verification = recheck(bundle, progress)
    progress.close()
    _say(*verification_lines(verification))
    return 0


def _models(_: argparse.Namespace, __: Progress) -> int:
    for recipe in list_recipes():
        _say(f"{recipe.name:<28} {recipe.description} ({recipe.licence})")
    return 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a build cleans up; only possible in the main thread."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
