"""From a recipe to simulated linears: gains, step groups, ranges, weights and biases, layer by layer.

1. a smoothing vector per layer, of fixed strength or of the one whose worst step errs least;
2. step groups, common to all layers, by the summed error of their inputs;
3. per group and branch: means to subtract, a range, clipped or not, and from it scale and zero point;
4. the weights' codes;
5. biases: the layer's own, what was subtracted, and the mean error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tvm_flow.calibrate import layer_names
from tvm_flow.calibrate.samples import LayerSamples, Samples
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyModel
from tvm_flow.numerics.thread_count import thread_count
from tvm_flow.quantize.activations import Units, output_error, static_codes
from tvm_flow.quantize.fold import TIMELESS_KINDS, split
from tvm_flow.quantize.grouping import Groups, contiguous_groups, widening_cost
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.quantize.recipe_parts import Fit
from tvm_flow.quantize.rounding import weight_codes
from tvm_flow.quantize.simulated import AnyLayer, DynamicCodes, Float16Layer, SimulatedLayer
from tvm_flow.quantize.smooth import smoothing_gain

CENTERED_KINDS = ("attn.qkv", "mlp.fc1", "attn.proj", "attn_temp.proj", "cross_attn.proj")
"""Where subtracting a vector costs nothing: it folds into the norm's shift, or into V's bias, as attention's weights
add up to one."""
_V_IS_TIMELESS = ("cross_attn.proj",)
FACTORS = np.geomspace(1, 64, 10)


@dataclass(frozen=True)
class Scheme:
    """A recipe made concrete: ``layers`` by name (empty for float32), and the group of each step."""

    layers: dict[str, AnyLayer]
    groups: Groups
    bytes_per_step: float


@dataclass(frozen=True, eq=False)
class _Linear:
    """What there is to quantize."""

    name: str
    weight: Tensor
    bias: Tensor
    samples: LayerSamples

    @property
    def kind(self) -> str:
        return split(self.name)[1]


@thread_count()
def make_scheme(model: AnyModel, recipe: Recipe, samples: Samples, progress: bool = False) -> Scheme:
    """Simulated linears of ``model`` by ``recipe``; ``samples`` are of this model's inputs.

    Raises ConfigError for a recipe that does not fit the model, QuantizeError for what cannot be represented.
    """
    names = layer_names(model.config)
    steps = len(samples[names[0]].rows)
    recipe.check(names, steps)
    if recipe.method == "float32":
        return Scheme({}, np.zeros(steps, np.int64), 0.0)
    linears = [_linear(model, name, samples) for name in names]
    if recipe.method == "float16":
        return Scheme({each.name: _float16(each) for each in linears}, np.zeros(steps, np.int64), 0.0)
    gains = {each.name: _gain(each, recipe, _simple_groups(recipe, steps)) for each in linears}
    groups = step_groups(linears, gains, recipe)
    bar = tqdm(linears, desc="quantize", unit="layer", disable=not progress)
    layers = {each.name: quantized_linear(each, gains[each.name], recipe, groups) for each in bar}
    return Scheme(dict(layers), groups, _bytes_per_step(layers, recipe, groups))


def step_groups(linears: list[_Linear], gains: dict[str, Tensor | None], recipe: Recipe) -> Groups:
    """The group of each step: one for all, one for each, or ``recipe.groups`` by least summed relative error."""
    steps = len(linears[0].samples.rows)
    if recipe.groups is None or recipe.method == "dynamic":
        return _simple_groups(recipe, steps)
    total = np.zeros((steps, steps))
    for each in linears:
        if each.kind not in TIMELESS_KINDS:
            total += _joining_cost(each, gains[each.name], recipe)
    return contiguous_groups(total, recipe.groups)


def quantized_linear(linear: _Linear, gain: Tensor | None, recipe: Recipe, groups: Groups) -> SimulatedLayer:
    """``linear`` with everything that ``recipe`` fits."""
    if linear.kind in TIMELESS_KINDS:
        groups = np.zeros_like(groups)
    fit = recipe.fit if recipe.method == "static" else replace(recipe.fit, center="none", correction="none")
    weight = linear.weight if gain is None else linear.weight / gain
    center = _center(linear, gain, fit, Units(groups, recipe.branches == "shared"))
    layer = _uncoded(linear, gain, center, recipe)
    steps = range(len(groups))
    rows = torch.stack([layer.shifted(linear.samples.rows[step], step) for step in steps])
    if recipe.method == "static":
        layer = replace(layer, codes=static_codes(linear.name, (rows, _range(layer, linear)), weight, recipe, groups))
    flat = rows.flatten(0, 2)
    codes, scale = weight_codes(weight, recipe.bits(linear.name, 0).weights, fit, flat.T @ flat)
    shift = linear.bias if center is None else linear.bias + center @ weight.T
    layer = replace(layer, weight=codes, weight_scale=scale, bias=shift.expand(len(groups), 2, -1))
    if fit.correction == "none":
        return layer
    each_step = fit.correction == "step" and linear.kind not in TIMELESS_KINDS
    per = np.arange(len(groups)) if each_step else groups
    return replace(layer, bias=layer.bias + _mean_errors(linear, layer, Units(per, recipe.branches == "shared")))


def _linear(model: AnyModel, name: str, samples: Samples) -> _Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    if name not in samples or samples[name].rows.shape[-1] != linear.in_features:
        raise QuantizeError(f"{name}: expected samples of {linear.in_features} channels; sample this model's inputs")
    return _Linear(name, linear.weight.detach().float(), linear.bias.detach().float(), samples[name])


def _float16(linear: _Linear) -> Float16Layer:
    return Float16Layer(linear.weight.half().float(), linear.bias.half().float())


def _simple_groups(recipe: Recipe, steps: int) -> Groups:
    joined = recipe.ranges == "all_steps" or recipe.method == "dynamic"
    return np.zeros(steps, np.int64) if joined else np.arange(steps)


def _uncoded(linear: _Linear, gain: Tensor | None, center: Tensor | None, recipe: Recipe) -> SimulatedLayer:
    steps = len(linear.samples.rows)
    kept = frozenset(np.flatnonzero(recipe.float_steps(linear.name, steps)).tolist())
    codes = DynamicCodes(recipe.bits(linear.name, 0).activations, recipe.activation == "symmetric")
    empty = torch.empty(0)
    return SimulatedLayer(empty, empty, empty, gain, center, codes, kept)


def _gain(linear: _Linear, recipe: Recipe, groups: Groups) -> Tensor | None:
    """1 / s [K] of a smoothed layer; of several strengths, that whose worst step has the least relative error."""
    if recipe.smoothing is None or not recipe.smooths(linear.name):
        return None
    absmax = torch.maximum(-linear.samples.low, linear.samples.high).amax((0, 1)).numpy()
    columns = linear.weight.abs().amax(0).numpy()
    alphas = recipe.fit.alphas or (recipe.smoothing.alpha,)
    gains = [torch.from_numpy(smoothing_gain(absmax, columns, alpha)) for alpha in alphas]
    if len(gains) == 1:
        return gains[0]
    plain = replace(recipe, fit=Fit(), groups=None)
    worst = [_worst_step(linear, quantized_linear(linear, gain, plain, groups)) for gain in gains]
    return gains[int(np.argmin(worst))]


def _worst_step(linear: _Linear, layer: SimulatedLayer) -> float:
    errors = []
    for step, rows in enumerate(linear.samples.rows):
        exact = rows @ linear.weight.T + linear.bias
        lost = (layer.run(rows.flatten(0, 1), step).view_as(exact) - exact).square().sum((1, 2))
        errors.append(float((lost / exact.square().sum((1, 2)).clamp(min=1e-30)).max()))
    return max(errors)


def _center(linear: _Linear, gain: Tensor | None, fit: Fit, units: Units) -> Tensor | None:
    """Means [steps, 2, K] of the smoothed input, equal where they must be; None where nothing may be subtracted."""
    if fit.center == "none" or linear.kind not in CENTERED_KINDS:
        return None
    steps = len(units.groups)
    if linear.kind in _V_IS_TIMELESS:
        units = replace(units, groups=np.zeros(steps, np.int64))
    elif fit.center == "step":
        units = replace(units, groups=np.arange(steps))
    means = linear.samples.rows.mean(2)
    return units.averaged(means if gain is None else means * gain)


def _range(layer: SimulatedLayer, linear: _Linear) -> tuple[Tensor, Tensor]:
    """Least and greatest value of what is rounded, each [steps, 2]."""
    low, high = linear.samples.low, linear.samples.high
    if layer.gain is not None:
        low, high = low * layer.gain, high * layer.gain
    if layer.center is not None:
        low, high = low - layer.center, high - layer.center
    return low.amin(-1), high.amax(-1)


def _mean_errors(linear: _Linear, layer: SimulatedLayer, units: Units) -> Tensor:
    """Mean of exact less simulated output [steps, 2, N]."""
    means = []
    for step, rows in enumerate(linear.samples.rows):
        exact = rows @ linear.weight.T + linear.bias
        means.append((exact - layer.run(rows.flatten(0, 1), step).view_as(exact)).mean(1))
    return units.averaged(torch.stack(means))


def _joining_cost(linear: _Linear, gain: Tensor | None, recipe: Recipe) -> np.ndarray:
    """[T, T]: relative error of the layer's outputs, summed over the steps of a group and both branches."""
    layer = _uncoded(linear, gain, None, recipe)
    low, high = _range(layer, linear)
    weight = linear.weight if gain is None else linear.weight / gain
    gram, bits = weight.T @ weight, recipe.bits(linear.name, 0).activations
    symmetric = recipe.activation == "symmetric"
    total = np.zeros((len(low), len(low)))
    for branch in (0, 1):
        rows = [layer.shifted(each, 0)[branch] for each in linear.samples.rows]
        energy = sum(float(((x @ gram) * x).sum()) for x in rows)
        ends = [(float(a), float(b)) for a, b in zip(low[:, branch], high[:, branch], strict=True)]
        errors = [
            [output_error(x, gram, (lo * f, hi * f), symmetric, bits) / max(energy, 1e-30) for f in FACTORS]
            for x, (lo, hi) in zip(rows, ends, strict=True)
        ]
        widths = np.array([max(-lo, hi) if symmetric else max(hi, 0) - min(lo, 0) for lo, hi in ends])
        total += widening_cost(np.maximum(widths, 1e-30), FACTORS, np.array(errors))
    return total


def _bytes_per_step(layers: dict[str, SimulatedLayer], recipe: Recipe, groups: Groups) -> float:
    """What a step's tables add to the one set of weights: scales and zero points, and biases that differ by group."""
    if recipe.method == "dynamic":
        return 0.0
    count = int(groups.max()) + 1
    branches = 1 if recipe.branches == "shared" else 2
    entry = 4 + (recipe.activation == "asymmetric")
    total = 0.0
    for layer in layers.values():
        total += count * branches * entry
        vectors = {"group": count, "step": len(groups), "none": 0}
        distinct = max(vectors[recipe.fit.correction], vectors[recipe.fit.center] if layer.center is not None else 0)
        total += 4 * branches * len(layer.weight) * (distinct if distinct > 1 else 0)
    return total / len(groups)
