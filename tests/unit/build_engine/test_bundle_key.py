import dataclasses

import pytest

from build_engine import bundle_key
from build_engine.bundle_key import builder_digest, bundle_name
from build_engine.errors import BuildError
from build_engine.options import BuildOptions, Profile, complete
from build_engine.recipes import BuildDefaults

PROFILE = Profile(target="cpu", precision="import", kv_dtype="float16", block_size=16)


def test_a_name_is_readable_and_safe_as_a_folder() -> None:
    name = bundle_name("My Model/../x", "ab" * 32, PROFILE)
    assert name.startswith("my-model-..-x-cpu-import-")
    assert "/" not in name
    assert len(bundle_name("x" * 500, "ab" * 32, PROFILE)) < 120


def test_equal_builds_have_equal_names() -> None:
    assert bundle_name("m", "ab", PROFILE) == bundle_name("m", "ab", PROFILE)


@pytest.mark.parametrize(
    "change", [{"precision": "int8"}, {"rotate": True}, {"kv_dtype": "float32"}, {"block_size": 32}]
)
def test_every_choice_changes_the_name(change: dict[str, object]) -> None:
    assert bundle_name("m", "ab", PROFILE) != bundle_name("m", "ab", dataclasses.replace(PROFILE, **change))


def test_source_versions_and_builder_change_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {bundle_name("m", "ab", PROFILE), bundle_name("m", "cd", PROFILE)}
    monkeypatch.setattr(bundle_key, "version", lambda _: "99")
    names.add(bundle_name("m", "ab", PROFILE))
    monkeypatch.setattr(bundle_key, "builder_digest", lambda: "other")
    names.add(bundle_name("m", "ab", PROFILE))
    assert len(names) == 4


def test_the_builder_digest_covers_its_sources() -> None:
    assert builder_digest() == builder_digest()
    assert len(builder_digest()) == 64


def test_recipes_fill_in_what_options_leave_open() -> None:
    defaults = BuildDefaults(precision="import", kv_dtype="float32")
    assert complete(BuildOptions(), defaults).precision == "import"
    chosen = complete(BuildOptions(precision="int8", kv_dtype="float16"), defaults)
    assert (chosen.precision, chosen.kv_dtype) == ("int8", "float16")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BuildOptions(target="cuda", precision="fp32"), "precision 'fp32' is not one of auto, import, int8"),
        (BuildOptions(target="tpu"), "'tpu' is not known; targets: cpu"),
        (BuildOptions(precision="fp8"), "precision 'fp8'"),
        (BuildOptions(kv_dtype="int8"), "kv-dtype 'int8'"),
        (BuildOptions(block_size=0), "block-size 0"),
        (BuildOptions(name="../x"), "name '../x'"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options: BuildOptions, said: str) -> None:
    with pytest.raises(BuildError) as caught:
        complete(options, BuildDefaults())
    assert said in str(caught.value)
