"""A bundle among the recipes that are tried: its latents beside those of its own recipe, simulated.

Both start from the same noise as FP32. What they differ by is the order of float operations, which decides codes of
values near a tie, and what is folded once and rounded there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tvm_flow.errors import ConfigError
from tvm_flow.pack import read_manifest
from tvm_flow.pack.format import MANIFEST
from tvm_flow.quantize import Recipe

SIMULATED, COMPILED = "simulated", "compiled"
"""What follows a bundle's name in the names of its two recipes."""
Generate = Callable[[Sequence[str], Tensor, Sequence[int]], Tensor]
"""Prompts, noise [N, C, T, H, W] and the seeds of what steps draw, to latents of that shape."""


@dataclass(frozen=True, eq=False)
class CompiledRecipe:
    """A bundle called ``name``: ``recipe`` is what it was quantized by, ``digest`` stands for its files."""

    name: str
    recipe: Recipe
    digest: str
    generate: Generate

    @property
    def simulated_name(self) -> str:
        return f"{self.name} {SIMULATED}"

    @property
    def compiled_name(self) -> str:
        return f"{self.name} {COMPILED}"


def compiled_recipe(bundle: Path, steps: int, generate: Generate) -> CompiledRecipe:
    """What ``bundle`` was made from; raises ConfigError for one of fewer than ``steps`` steps, BundleError for none."""
    manifest = read_manifest(bundle)
    if manifest.steps != steps:
        raise ConfigError(f"{bundle}: expected a bundle of all {steps} steps, got {manifest.steps}; export all of them")
    if "recipe" not in manifest.provenance:
        raise ConfigError(f"{bundle}: expected the recipe that it was quantized by in its manifest; compile it again")
    digest = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    return CompiledRecipe(bundle.name, Recipe.from_dict(manifest.provenance["recipe"]), digest, generate)
