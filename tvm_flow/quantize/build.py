"""The quantize command: float model and ranges in, quantized model out.

1. take a smoothing vector per layer from the ranges and the weights;
2. fold it into weights and modulation, layer by layer, and round the weights to int8;
3. compute activation scales per step and branch for the smoothed inputs;
4. evaluate what depends on time alone, once per step;
5. keep the float parameters and tables that a step graph still needs.

Of a recipe with something to fit, inputs are sampled again over the calibrated prompts, and 1 to 3 are what `scheme`
finds on them. Of one whose blocks are in integers the reach of what lies between the linears is measured, too; of one
whose attention is int8 that of q, k and v; of one that corrects the sampler (`affine`) the constants of its updates are
fitted last.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from tvm_flow.artifact import is_current, make_stamp, write_stamp
from tvm_flow.calibrate import Denoising, Embed, LayerRanges, Ranges, layer_names, load_ranges, model_sha256
from tvm_flow.calibrate.attended import measure_attended
from tvm_flow.calibrate.reach import Reach, measure_reach
from tvm_flow.calibrate.samples import Samples
from tvm_flow.errors import CalibrationError, ConfigError, QuantizeError
from tvm_flow.model import AnyModel
from tvm_flow.numerics import quantize as to_int8
from tvm_flow.numerics import weight_scale
from tvm_flow.numerics.thread_count import thread_count
from tvm_flow.quantize.affine import fit_corrections
from tvm_flow.quantize.estimate import quantized_bytes
from tvm_flow.quantize.file import load_quantized, save_quantized
from tvm_flow.quantize.fitted import fitted_layers
from tvm_flow.quantize.fold import (
    INPUT_GAIN_KINDS,
    TIMELESS_KINDS,
    FoldedLinear,
    fold_linear,
    modulation_folds,
    split,
    weight_sqnr_db,
)
from tvm_flow.quantize.integer_model import integer_layers, reduced_reach
from tvm_flow.quantize.prepare import Fitting, prepare, rotated
from tvm_flow.quantize.quantized import Fold, QuantizedLayer, QuantizedModel
from tvm_flow.quantize.recipe import Recipe, load_recipe
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated_attention import attention_scales
from tvm_flow.quantize.smooth import activation_scales, smoothing_gain
from tvm_flow.quantize.tables import position_tables, step_records
from tvm_flow.room import expect_room
from tvm_flow.sampler import step_updates

Floats = NDArray[np.float32]

_DROPPED = ("t_embedder.", "fps_embedder.", "t_block.", "rope.")


def quantize(
    model: AnyModel, ranges: Path, recipe: Path, output: Path, embed: Embed | None = None, progress: bool = True
) -> QuantizedModel:
    """Quantize ``model`` by the files ``ranges`` and ``recipe`` into the file ``output``, if not current.

    ``embed`` reads the prompts of the ranges again for a recipe that is fitted on inputs. Raises ConfigError for a bad
    recipe, or a fitted one without it, CalibrationError for ranges of another model, QuantizeError for weights that
    their codes cannot hold.
    """
    stamp = make_stamp({"ranges": ranges, "recipe": recipe}, {"model": model_sha256(model)}, __name__)
    if is_current(output, stamp):
        return load_quantized(output)
    seen, how = load_ranges(ranges), load_recipe(recipe)
    expect_room(output, quantized_bytes(model, how, seen.sampler.steps))
    samples, reach, corrections = None, None, None
    if how.fitted and not how.simulated_only and embed is not None:
        denoising = Denoising(model, seen.sampler, seen.latent)
        turned, samples = prepare(Fitting(denoising, seen.prompts, embed), how, progress)
        if how.fit.sampler == "affine":
            layers = make_scheme(turned, how, samples, progress).layers
            corrections = fit_corrections(replace(denoising, model=turned), layers, seen.prompts, embed)
        if how.between == "integer":
            reach = measure_reach(denoising, seen.prompts, embed, progress)
        elif how.attention == "int8":
            reach = measure_attended(replace(denoising, model=turned), seen.prompts, embed, progress)
    quantized = quantize_model(model, seen, how, samples, reach, progress=progress)
    if corrections is not None:
        quantized = replace(quantized, updates=corrections.updates(quantized.updates))
    save_quantized(output, quantized)
    write_stamp(output, stamp)
    return quantized


@thread_count()
def quantize_model(
    model: AnyModel,
    ranges: Ranges,
    recipe: Recipe,
    samples: Samples | None = None,
    reach: Reach | None = None,
    progress: bool = False,
) -> QuantizedModel:
    """``quantize`` without files: its arguments read, its errors.

    For a fitted recipe the ``samples`` of `prepare`, and ``reach`` for one between integer: that of `measure_reach`; or
    with attention int8: that of `measure_attended`. What corrects the sampler's updates is not fitted here:
    they are the sampler's own.
    """
    names = layer_names(model.config)
    _check(model, ranges, names)
    recipe.check(names, ranges.sampler.steps)
    reached: dict[str, Floats] = {}
    if asked := recipe.simulated_only:
        raise ConfigError(
            f"recipe: {', '.join(asked)}: expected what libraries run, static with activations of 8 bits; "
            f"leave {'it' if len(asked) == 1 else 'them'} out, or use tvm-flow evaluate"
        )
    if recipe.fitted:
        if samples is None or (recipe.measures_more and reach is None):
            raise ConfigError(f"recipe: {', '.join(recipe.fitted)}: expected samples of inputs to fit on, got none")
        turned = rotated(model, recipe)
        scheme = make_scheme(turned, recipe, samples, progress)
        if recipe.between == "integer":
            layers, folds = integer_layers(model, scheme), modulation_folds(model, {})
        else:
            layers, folds = fitted_layers(turned, recipe, scheme)
        if recipe.attention == "int8" and reach is not None:
            reached = attention_scales(reach, scheme.groups, recipe.branches == "shared")
        elif reach is not None:
            reached = reduced_reach(reach)
    else:
        layers, folds = _ranged_layers(model, ranges, recipe, progress)
    return QuantizedModel(
        config=model.config,
        sampler=ranges.sampler,
        recipe=recipe,
        latent=ranges.latent,
        model_sha256=ranges.model_sha256,
        layers=layers,
        folds=folds,
        params=_float_params(model, names),
        tables=position_tables(model, ranges.sampler, ranges.latent),
        step_records=step_records(model, ranges.sampler),
        timesteps=ranges.sampler.timesteps(),
        updates=step_updates(ranges.sampler),
        reach=reached,
    )


def _ranged_layers(
    model: AnyModel, ranges: Ranges, recipe: Recipe, progress: bool
) -> tuple[dict[str, QuantizedLayer], dict[str, Fold]]:
    """Layers and folds by their ranges alone."""
    gains = _gains(model, ranges, recipe)
    bar = tqdm(layer_names(model.config), desc="quantize", unit="layer", disable=not progress)
    layers = {
        name: _layer(name, fold_linear(name, _linear(model, name), gains), ranges.layers[name], gains, recipe)
        for name in bar
    }
    return layers, modulation_folds(model, gains)


def _check(model: AnyModel, ranges: Ranges, names: tuple[str, ...]) -> None:
    sha256 = model_sha256(model)
    if ranges.model_sha256 != sha256:
        raise CalibrationError(
            f"ranges: expected those of the model {sha256[:12]}, got those of "
            f"{ranges.model_sha256[:12]}; calibrate this model"
        )
    if set(names) != set(ranges.layers):
        odd = sorted(set(names) ^ set(ranges.layers))
        raise CalibrationError(
            f"ranges: expected the {len(names)} quantized layers of the model, got {len(ranges.layers)}; "
            f"they differ in {', '.join(odd[:3])}; calibrate this model"
        )
    for name in names:
        have, want = ranges.layers[name].absmax.shape[-1], _linear(model, name).in_features
        if have != want:
            raise CalibrationError(f"ranges: {name}: expected {want} channels, got {have}; calibrate this model")


def _gains(model: AnyModel, ranges: Ranges, recipe: Recipe) -> dict[str, Floats]:
    """1 / s of every smoothed layer, from the weights as trained; a layer never quantized needs none."""
    gains = {}
    for name in layer_names(model.config):
        quantized = not recipe.float_steps(name, ranges.sampler.steps).all()
        if recipe.smoothing and recipe.smooths(name) and quantized:
            absmax_w = _float(_linear(model, name).weight.abs().amax(0))
            gains[name] = smoothing_gain(ranges.layers[name].absmax.max((0, 1)), absmax_w, recipe.smoothing.alpha)
    return gains


def _layer(
    name: str, folded: FoldedLinear, ranges: LayerRanges, gains: dict[str, Floats], recipe: Recipe
) -> QuantizedLayer:
    gain = gains.get(name)
    scale, zero_point = activation_scales(ranges, gain, recipe, timeless=split(name)[1] in TIMELESS_KINDS)
    float_steps = recipe.float_steps(name, len(scale))
    weight = folded.weight.astype(np.float32)
    weight_q, scales, sqnr = (None, None, None) if float_steps.all() else _round_weight(name, weight)
    return QuantizedLayer(
        weight_q=weight_q,
        weight_scale=scales,
        bias=folded.bias.astype(np.float32),
        input_gain=gain if split(name)[1] in INPUT_GAIN_KINDS else None,
        scale=scale,
        zero_point=zero_point,
        float_steps=float_steps,
        weight_f=weight if float_steps.any() else None,
        sqnr_db=sqnr,
    )


def _round_weight(name: str, weight: Floats) -> tuple[NDArray[np.int8], Floats, float]:
    """int8 weights, their scales, and signal to quantization noise in dB."""
    try:
        scale = weight_scale(weight)
        weight_q = to_int8(weight, scale[:, None]).astype(np.int8)
    except QuantizeError as error:
        raise QuantizeError(f"{name}: {error}") from error
    return weight_q, scale, weight_sqnr_db(weight, weight_q, scale)


def _float_params(model: AnyModel, names: tuple[str, ...]) -> dict[str, Floats]:
    """What is neither quantized nor folded nor evaluated: parameters under the model's own keys."""
    quantized = tuple(f"{name}." for name in names)
    return {
        key: _float(value)
        for key, value in model.state_dict().items()
        if not key.startswith((*_DROPPED, *quantized)) and not key.endswith("scale_shift_table")
    }


def _linear(model: AnyModel, name: str) -> nn.Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear


def _float(tensor: Tensor) -> Floats:
    values: Floats = tensor.detach().float().contiguous().numpy().copy()
    return values
