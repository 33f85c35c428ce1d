"""What a quantization came to, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_flow.calibrate import layer_kinds
from tvm_flow.quantize.fold import split
from tvm_flow.quantize.quantized import QuantizedLayer, QuantizedModel

_HEADER = "kind                   layers   weights  SQNR dB  worst  spread  cond/unc  float"

COLUMNS = {
    "weights": "numbers in int8, in thousands",
    "SQNR dB": "weight signal to rounding noise, mean over the layers; higher is better",
    "worst": "the same of the worst layer",
    "spread": "greatest over least activation scale of the quantized steps of a branch; worst layer",
    "cond/unc": "greatest ratio between the two branches' scales at one quantized step; worst layer",
    "float": "share of the layers and steps kept in float",
}


def summary(quantized: QuantizedModel) -> str:
    """A line per kind of layer, its weights and how much its activation scales move; then what the columns are."""
    by_kind = {
        kind: [layer for name, layer in quantized.layers.items() if split(name)[1] == kind]
        for kind in layer_kinds(quantized.config)
    }
    lines = [_line(kind, layers) for kind, layers in by_kind.items()]
    recipe = quantized.recipe
    how = "no smoothing" if recipe.smoothing is None else f"alpha {recipe.smoothing.alpha:g}"
    title = (
        f"{len(quantized.layers)} layers, {quantized.sampler.steps} steps: "
        f"{recipe.activation}, {recipe.ranges}, branches {recipe.branches}, {how}"
    )
    return "\n".join([title, _HEADER, *lines, *(f"  {column:<10}{meaning}" for column, meaning in COLUMNS.items())])


def _line(kind: str, layers: Sequence[QuantizedLayer]) -> str:
    weights = [layer.weight_q.size for layer in layers if layer.weight_q is not None]
    sqnr = [layer.sqnr_db for layer in layers if layer.sqnr_db is not None]
    scales = [layer.scale[~layer.float_steps] for layer in layers if layer.weight_q is not None]
    kept = 100 * float(np.mean([layer.float_steps.mean() for layer in layers]))
    if not scales:
        return f"{kind:<22}{len(layers):>7}{0:>9}k{'-':>9}{'-':>7}{'-':>8}{'-':>10}{kept:>6.0f}%"
    spread = max(float((scale.max(0) / scale.min(0)).max()) for scale in scales)
    apart = max(float((scale.max(1) / scale.min(1)).max()) for scale in scales)
    return (
        f"{kind:<22}{len(layers):>7}{sum(weights) / 1000:>9.0f}k{np.mean(sqnr):>9.1f}{min(sqnr):>7.1f}"
        f"{spread:>8.2f}{apart:>10.2f}{kept:>6.0f}%"
    )
