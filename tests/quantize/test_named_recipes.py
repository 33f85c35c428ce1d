"""Recipes by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_flow.calibrate import layer_names
from tvm_flow.errors import ConfigError
from tvm_flow.model import STDiT3Config, STDiTConfig
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.named_recipes import find_recipe, recipe_names

ASKED = "fp32 fp16 dynamic-w8a8 static-w8a8 static-asq-w8a8 static-w8a8-nosmooth static-free-w8a8 dynamic-w4a8 \
static-w4a8 static-free-w4a8 static-w6a6 static-w4a6"


def test_the_schemes_that_are_compared_are_all_there() -> None:
    assert set(ASKED.split()) <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_scheme_fits_both_models(name: str) -> None:
    recipe = find_recipe(name)
    for config in (STDiT3Config(depth=4, hidden=32, heads=2), STDiTConfig(depth=4, hidden=32, heads=2)):
        recipe.check(layer_names(config), 20)
    assert ("w4" in name) == (recipe.widths.weights == 4)
    assert ("a4" in name) == (recipe.widths.activations == 4)


def test_a_recipe_of_bundles_and_a_file_are_found_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("groups: 3\n")
    assert find_recipe("w8a8") == Recipe()
    assert find_recipe(str(path)) == Recipe(groups=3)


@pytest.mark.parametrize("name", ["static-w8a8-mixed", "static-w4a8-mixed"])
def test_what_mix_chose_for_the_demo_fits_it(name: str) -> None:
    recipe = find_recipe(name)
    recipe.check(layer_names(STDiT3Config(depth=4, hidden=32, heads=2)), 20)
    assert recipe.keep_float or recipe.overrides


def test_another_name_is_told_the_names() -> None:
    with pytest.raises(ConfigError, match="recipe 'best': expected a YAML file or one of dynamic-"):
        find_recipe("best")
