import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gguf_files import model_file
from huggingface_files import write_directory

from build_engine import build
from build_engine.build import build_bundle
from build_engine.cli import main
from build_engine.errors import BuildError
from build_engine.options import BuildOptions
from runtime.bundle import find_bundle, open_bundle
from runtime.native import NativeLibraryError

ROOT = Path(__file__).parents[3]
BUILD_UNTIL_TOLD = """
import signal, sys
from build_engine import build, cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
def compile_slowly(*_):
    print("ready", flush=True)
    sys.stdin.read()
    raise SystemExit("not reached")
build._compile = compile_slowly
raise SystemExit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return model_file().write(tmp_path / "tiny.gguf")


def bundles(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "cache" / "bundles"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_a_gguf_becomes_a_bundle_that_says_what_it_is(gguf: Path) -> None:
    bundle = open_bundle(build_bundle(str(gguf)), verify=True)
    manifest = bundle.manifest
    assert (manifest.name, manifest.target, manifest.source.kind) == ("tiny", "cpu", "gguf")
    assert manifest.source.spec == str(gguf)
    assert manifest.kv.block_size == 16
    assert manifest.eos_token_ids == (1,)
    assert manifest.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert manifest.build_seconds > 0
    assert manifest.build_peak_bytes > 1 << 20
    assert manifest.verification is not None
    assert manifest.verification.mean_kl < 0.1
    assert {"model.onnx", "tokenizer.json", "generation_config.json"} <= {entry.name for entry in manifest.files}
    assert bundle.path.name.startswith("tiny-cpu-auto-")
    assert manifest.key == bundle.path.name


def test_a_hugging_face_directory_becomes_a_bundle(tmp_path: Path) -> None:
    folder = write_directory(tmp_path / "tiny-hf", "qwen2", "bf16")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    bundle = open_bundle(build_bundle(str(folder), BuildOptions(verify=False, kv_dtype="float32", block_size=32)))
    assert bundle.manifest.verification is None
    assert (bundle.manifest.kv.dtype, bundle.manifest.kv.block_size) == ("float32", 32)
    assert (bundle.path / "chat_template.jinja").read_text("utf-8") == "{{ messages }}"


def test_a_second_build_finds_the_first(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_bundle(str(gguf), BuildOptions(verify=False))
    monkeypatch.setattr(build, "_compile", None)
    assert build_bundle(str(gguf), BuildOptions(verify=False)) == first


def test_a_bundle_that_was_not_verified_is_built_again_for_who_wants_that(gguf: Path) -> None:
    path = build_bundle(str(gguf), BuildOptions(verify=False))
    assert open_bundle(path).manifest.verification is None
    assert build_bundle(str(gguf)) == path
    assert open_bundle(path).manifest.verification is not None
    inode = path.stat().st_ino
    build_bundle(str(gguf), BuildOptions(verify=False))
    assert path.stat().st_ino == inode


def test_a_damaged_or_forced_bundle_is_built_again(gguf: Path) -> None:
    options = BuildOptions(verify=False)
    path = build_bundle(str(gguf), options)
    (path / "model.onnx").write_bytes(b"")
    inode = path.stat().st_ino
    assert build_bundle(str(gguf), options) == path
    open_bundle(path, verify=True)
    assert path.stat().st_ino != inode
    inode = path.stat().st_ino
    build_bundle(str(gguf), BuildOptions(verify=False, force=True))
    assert path.stat().st_ino != inode


def test_an_output_directory_is_reused_only_for_the_same_build(gguf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_bundle(str(gguf), BuildOptions(verify=False, output=out)) == out
    first = out.stat().st_ino
    build_bundle(str(gguf), BuildOptions(verify=False, output=out))
    assert out.stat().st_ino == first
    build_bundle(str(gguf), BuildOptions(verify=False, output=out, precision="fp32"))
    assert out.stat().st_ino != first
    assert open_bundle(out).manifest.precision == "fp32"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_a_build_that_fails_leaves_nothing(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(build, "_compile", fail)
    with pytest.raises((KeyboardInterrupt, BuildError)):
        build_bundle(str(gguf))
    assert bundles(tmp_path) == []


def test_half_a_surrogate_pair_is_one_message(tmp_path: Path) -> None:
    folder = write_directory(tmp_path / "tiny-hf")
    (folder / "generation_config.json").write_text('{"a": "\\ud800"}')
    with pytest.raises(BuildError, match=r"generation_config\.json holds half of a surrogate pair"):
        build_bundle(str(folder), BuildOptions(verify=False))
    assert bundles(tmp_path) == []


def test_a_full_disk_is_one_message_and_leaves_nothing(gguf: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, sys; from build_engine.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); raise SystemExit(main(sys.argv[1:]))"
    )
    # NOTE: a coverage run's data file would not fit the limit either.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", limited, "build", str(gguf), "--quiet"],
        env=unmeasured | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(": File too large\n")
    assert done.stderr.count("\n") == 1
    assert bundles(tmp_path) == []


@pytest.mark.parametrize("command", ["build", "verify"])
def test_an_instruction_set_that_is_not_there_is_one_message(
    gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    path = build_bundle(str(gguf), BuildOptions(verify=False))
    monkeypatch.setattr("build_engine.verify.compare.active_isa", _no_library)
    arguments = ["build", str(gguf), "--quiet", "--force"] if command == "build" else ["verify", str(path), "--quiet"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == "error: the library is gone\n"


def _no_library() -> str:
    raise NativeLibraryError("the library is gone")


def test_a_build_that_cannot_fit_is_refused_before_it_starts(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "available_memory", lambda: 10**6)
    with pytest.raises(BuildError, match="of memory, but 1 MB are free"):
        build_bundle(str(gguf))
    assert bundles(tmp_path) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_terminated_build_leaves_nothing(gguf: Path, tmp_path: Path, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD_UNTIL_TOLD, "build", str(gguf), "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(bundles(tmp_path)) == 1
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == status
    assert bundles(tmp_path) == []


def test_the_command_line_builds_inspects_and_verifies(
    gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    assert main(["build", str(gguf), "--name", "tiny-model"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("built: ")
    assert "mean KL" in output.out
    assert "weights done in" in output.err
    alias = tmp_path / "models" / "tiny-model" / "cpu"
    assert alias.is_symlink()
    assert find_bundle("tiny-model") == Path("models/tiny-model/cpu")

    assert main(["build", str(gguf), "--name", "tiny-model", "--print-path"]) == 0
    output = capsys.readouterr()
    assert Path(output.out.strip()) == alias.resolve()
    assert output.err == ""
    assert main(["build", str(gguf), "--name", "tiny-model"]) == 0
    assert capsys.readouterr().out.startswith("exists already: ")

    assert main(["inspect", "tiny-model"]) == 0
    text = capsys.readouterr().out
    for word in ("tiny-model", "llama: 2 layers of 64", "onnxruntime", "mean KL", "model.onnx", "paged"):
        assert word in text
    assert main(["verify", "tiny-model", "--quiet"]) == 0
    assert "files have the digests of the manifest" in capsys.readouterr().out


def test_a_checkpoint_that_changed_since_is_noticed_by_verify(gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = build_bundle(str(gguf), BuildOptions(verify=False))
    model_file(encoding="f32").write(gguf)
    assert main(["verify", str(path)]) == 2
    assert "has changed since the bundle was built" in capsys.readouterr().err


def test_a_plan_builds_nothing(gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(gguf), "--plan"]) == 0
    assert "tokens that fit" in capsys.readouterr().out
    assert bundles(tmp_path) == []


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "smollm2-135m-instruct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["build", "nothing"], "neither a recipe"),
        (["build", "tiny.gguf", "--target", "tpu"], "is not known; targets: cpu"),
        (["build", "tiny.gguf", "--precision", "import", "--output", "thesis"], "not an engine bundle"),
        (["build", "a" * 5000], "cannot be looked up"),
        (["inspect", "a" * 5000], "File name too long"),
        (["inspect", "nothing"], "neither an engine bundle nor the name of a built model"),
        (["verify", "thesis"], "neither an engine bundle"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    assert gguf.exists()
    assert main([*command, *(["--quiet"] if command[0] == "build" else [])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


def test_finding_an_existing_bundle_imports_nothing_heavy(gguf: Path) -> None:
    path = build_bundle(str(gguf))
    code = (
        "import sys; from build_engine.cli import main; status = main(sys.argv[1:]); "
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'tokenizers', 'transformers'} & set(sys.modules); "
        "raise SystemExit(status or str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "build", str(gguf), "--print-path"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(path)
