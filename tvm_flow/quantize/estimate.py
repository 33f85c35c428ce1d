"""About how large a quantized model will be."""

from __future__ import annotations

from tvm_flow.calibrate import layer_names
from tvm_flow.model import AnyModel
from tvm_flow.quantize.recipe import Recipe


def quantized_bytes(model: AnyModel, recipe: Recipe, steps: int) -> int:
    """int8 weights, those that stay in float at some of ``steps`` steps, and all other parameters in float32."""
    weights = {name: model.get_submodule(name).get_parameter("weight").numel() for name in layer_names(model.config)}
    total = 4 * (sum(parameter.numel() for parameter in model.parameters()) - sum(weights.values()))
    for name, count in weights.items():
        kept = recipe.float_steps(name, steps)
        total += count * (4 * bool(kept.any()) + (not kept.all()))
    return total
