"""Recipes by name: the schemes that quality is measured for, one YAML file each."""

from __future__ import annotations

from pathlib import Path

from tvm_flow.errors import ConfigError
from tvm_flow.quantize.recipe import Recipe, load_recipe
from tvm_flow.shipped import shipped_folder

FOLDERS = ("recipes/quality", "recipes", "recipes/demo")
"""Of the calibration folder; the first that has a name counts. The last names layers of the demo's model."""


def recipe_names() -> tuple[str, ...]:
    """The names of all schemes, in order."""
    return tuple(sorted(path.stem for path in (shipped_folder("calibration") / FOLDERS[0]).glob("*.yaml")))


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``, or in the file ``name``; raises ConfigError, which lists the names, for neither."""
    return load_recipe(recipe_path(name))


def recipe_path(name: str) -> Path:
    """Where the recipe ``name`` is written; as `find_recipe`."""
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    for folder in FOLDERS:
        path = shipped_folder("calibration") / folder / f"{name}.yaml"
        if path.is_file():
            return path
    raise ConfigError(f"recipe {name!r}: expected a YAML file or one of {', '.join(recipe_names())}; name one of them")
