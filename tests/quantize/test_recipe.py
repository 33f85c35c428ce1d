"""Recipes: defaults, round trip, patterns, and a message for every mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.calibrate import layer_names
from tvm_flow.errors import ConfigError
from tvm_flow.model import STDiT3Config
from tvm_flow.quantize import KeepFloat, Recipe, Smoothing, load_recipe
from tvm_flow.quantize.recipe_parts import Fit, Override, Widths

RECIPES = Path(__file__).parents[2] / "calibration" / "recipes"
NAMES = layer_names(STDiT3Config(depth=2, hidden=32, heads=2))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_the_default_recipe_file_states_the_defaults() -> None:
    assert load_recipe(RECIPES / "w8a8.yaml") == Recipe()
    content = yaml.safe_load((RECIPES / "w8a8.yaml").read_text())
    assert content == Recipe().to_dict(), "every key of the default recipe is written out"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_fits_a_model(path: Path) -> None:
    load_recipe(path).check(NAMES, 20)


def test_attention_is_written_only_where_it_is_not_float() -> None:
    assert "attention" not in Recipe().to_dict(), "scores that were kept under a recipe stay its own"
    recipe = load_recipe(RECIPES / "quality" / "static-w8a8-attention8.yaml")
    assert recipe == Recipe(attention="int8") == Recipe.from_dict(recipe.to_dict())


def test_asq_joins_all_steps() -> None:
    assert load_recipe(RECIPES / "w8a8_asq.yaml").ranges == "all_steps"


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "")) == Recipe()


recipes = st.builds(
    Recipe,
    st.none() | st.builds(Smoothing, st.floats(0, 1), st.lists(st.text(), max_size=3).map(tuple)),
    st.sampled_from(["symmetric", "asymmetric"]),
    st.sampled_from(["per_step", "all_steps"]),
    st.sampled_from(["separate", "shared"]),
    st.lists(st.builds(KeepFloat, st.text(), st.none() | st.tuples(st.integers(), st.integers())), max_size=3).map(
        tuple
    ),
    st.sampled_from(["static", "dynamic", "float16", "float32"]),
    st.builds(Widths, st.integers(2, 8), st.integers(2, 8)),
    st.none(),
    st.builds(Fit, st.sampled_from(["minmax", "mse"]), center=st.sampled_from(["none", "group", "step"])),
    st.lists(st.builds(Override, st.text(), st.none() | st.integers(2, 8)), max_size=3).map(tuple),
)


@given(recipes)
def test_recipes_survive_yaml(recipe: Recipe) -> None:
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widths: {weights: 9}", "recipe: widths.weights: expected a whole number from 2 to 8, got 9"),
        ("widths: 4", "recipe: widths: expected a mapping .* got int 4"),
        ("fit: {clip: most}", "recipe: fit.clip: expected minmax, percentile or mse, got 'most'"),
        ("fit: {alphas: [2]}", "recipe: fit.alphas: expected a list of numbers from 0 to 1"),
        ("{groups: 2, ranges: all_steps}", "recipe: groups: expected null with ranges all_steps, got 2"),
        ("groups: 0", "recipe: groups: expected a whole number from 1 "),
        ("attention: int4", "recipe: attention: expected float or int8, got 'int4'"),
        ("{attention: int8, method: dynamic}", "recipe: method: expected static with attention int8, got dynamic"),
        ("{attention: int8, between: integer}", "recipe: attention: expected float with between integer, got int8"),
        ("method: fp8", "recipe: method: expected static, dynamic, float16 or float32, got 'fp8'"),
        ("overrides: [{layers: '*', weights: 4, steps: [0, 1]}]", "expected no steps beside weights"),
    ],
)
def test_mistakes_in_what_is_simulated_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, text))


def test_more_groups_than_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="recipe: groups: expected at most the 3 steps, got 4"):
        Recipe(groups=4).check(NAMES, 3)


def test_a_full_recipe_is_read(tmp_path: Path) -> None:
    text = """
        smoothing: {alpha: 1, layers: ["*.attn.*", "*.mlp.fc2"]}
        activation: asymmetric
        ranges: all_steps
        branches: shared
        keep_float: ["*.cross_attn.proj", {layers: "*.mlp.fc2", steps: [1, 2]}, {layers: "temporal*"}]
    """
    recipe = load_recipe(write(tmp_path, text))
    assert recipe == Recipe(
        Smoothing(1.0, ("*.attn.*", "*.mlp.fc2")),
        "asymmetric",
        "all_steps",
        "shared",
        (KeepFloat("*.cross_attn.proj"), KeepFloat("*.mlp.fc2", (1, 2)), KeepFloat("temporal*")),
    )
    recipe.check(NAMES, 3)
    assert recipe.float_steps("spatial_blocks.0.mlp.fc2", 4).tolist() == [False, True, True, False]
    assert recipe.float_steps("spatial_blocks.0.cross_attn.proj", 4).all()
    assert recipe.float_steps("temporal_blocks.1.attn.qkv", 4).all()
    assert not recipe.float_steps("spatial_blocks.1.attn.qkv", 4).any()


def test_smoothing_patterns_choose_layers() -> None:
    recipe = Recipe(Smoothing(layers=("spatial_*.attn.*",)))
    assert recipe.smooths("spatial_blocks.0.attn.qkv")
    assert not recipe.smooths("temporal_blocks.0.attn.qkv")
    assert not recipe.smooths("spatial_blocks.0.cross_attn.proj")
    assert not Recipe(smoothing=None).smooths("spatial_blocks.0.attn.qkv")


def test_rules_for_one_layer_add_up() -> None:
    recipe = Recipe(keep_float=(KeepFloat("*", (0, 0)), KeepFloat("*.fc2", (3, 3))))
    assert recipe.float_steps("spatial_blocks.0.mlp.fc2", 4).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "alpha: 1\nsmooth: 2",
            r"recipe: unknown keys \['alpha', 'smooth'\]; have \['activation', 'attention', 'between', ",
        ),
        ("- a", r"recipe: expected a mapping with keys among .* got list \['a'\]"),
        ("smoothing: {beta: 1}", r"smoothing: unknown keys \['beta'\]; have \['alpha', 'layers'\]"),
        ("smoothing: 0.5", "smoothing: expected a mapping .* got float 0.5"),
        ("smoothing: {alpha: high}", "smoothing.alpha: expected a number from 0 to 1, got 'high'"),
        ("smoothing: {alpha: true}", "smoothing.alpha: expected a number from 0 to 1, got True"),
        ("smoothing: {alpha: 1.5}", "smoothing.alpha: expected a number from 0 to 1, got 1.5"),
        ("smoothing: {alpha: .nan}", "smoothing.alpha: expected a number from 0 to 1, got nan"),
        ("smoothing: {layers: '*'}", "smoothing.layers: expected a list of glob patterns over layer names, got '\\*'"),
        ("smoothing: {layers: [1]}", r"smoothing.layers: expected a list of glob patterns over layer names, got \[1\]"),
        ("activation: signed", "activation: expected symmetric or asymmetric, got 'signed'"),
        ("ranges: each", "ranges: expected per_step or all_steps, got 'each'"),
        ("branches: [both]", r"branches: expected separate or shared, got \['both'\]"),
        ("keep_float: '*'", "keep_float: expected a list of patterns, or of layers and steps, got '\\*'"),
        ("keep_float: [1]", "keep_float: expected a mapping .* got int 1"),
        ("keep_float: [{layer: a}]", r"keep_float: unknown keys \['layer'\]; have \['layers', 'steps'\]"),
        ("keep_float: [{steps: [0, 1]}]", r"keep_float: missing keys \['layers'\]"),
        ("keep_float: [{layers: a, steps: 3}]", r"keep_float: steps: expected \[first, last\], got 3"),
        ("keep_float: [{layers: a, steps: [0]}]", r"steps: expected \[first, last\], got \[0\]"),
        ("keep_float: [{layers: a, steps: [0, x]}]", r"steps: expected \[first, last\], got \[0, 'x'\]"),
        ("a: [", "expected a readable YAML recipe, got: "),
    ],
)
def test_every_mistake_has_a_message(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.yaml: expected a readable YAML recipe"):
        load_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            Recipe(keep_float=(KeepFloat("*.fc3"),)),
            r"pattern '\*.fc3' matches no layer; layers are called spatial_bl",
        ),
        (Recipe(Smoothing(layers=("*.ffn",))), r"pattern '\*.ffn' matches no layer"),
        (
            Recipe(keep_float=(KeepFloat("*", (0, 4)),)),
            r"expected steps \[first, last\] within 0 to 3, got \[0, 4\]",
        ),
        (Recipe(keep_float=(KeepFloat("*", (2, 1)),)), r"within 0 to 3, got \[2, 1\]"),
        (Recipe(keep_float=(KeepFloat("*", (-1, 1)),)), r"within 0 to 3, got \[-1, 1\]"),
    ],
)
def test_patterns_and_steps_must_fit_the_model(recipe: Recipe, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.check(NAMES, 4)


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().ranges = "all_steps"  # type: ignore[misc]
