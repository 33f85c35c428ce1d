"""A recipe that is fitted on sampled inputs, as the layers and folds of a quantized model.

`scheme` says what each linear rounds to, by itself: a gain and a center in front of it, codes, a bias for each step and
branch. Here gains and centers go where a step graph has them for nothing (see `fold`):

    gain    of attn.qkv and mlp.fc1 in the folds, of a proj in the V rows before it, of others inside the quantize; with
            attention in int8 of a proj, too
    center  of attn.qkv and mlp.fc1 in the folds of the shift, of a proj in the bias of the V rows before it

A gain of V rows multiplies their scales, not their codes: the codes are those that were fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tvm_flow.model import AnyModel
from tvm_flow.quantize.fold import (
    INPUT_GAIN_KINDS,
    MODULATES,
    VALUE_OF,
    fold_linear,
    modulation_folds,
    split,
    weight_sqnr_db,
)
from tvm_flow.quantize.quantized import Fold, QuantizedLayer
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.quantize.scheme import Scheme
from tvm_flow.quantize.simulated import SimulatedLayer, StaticCodes

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The model, and of its layers that are quantized at some step what is in front of each."""

    model: AnyModel
    recipe: Recipe
    layers: Mapping[str, SimulatedLayer]
    gains: Mapping[str, Floats]
    centers: Mapping[str, Floats]

    @property
    def folds_into_values(self) -> bool:
        """Whether V rows have the gain of a proj: not where V has codes of one scale for all of its channels."""
        return self.recipe.attention == "float"

    def multiplies_input(self, kind: str) -> bool:
        """Whether the gain of a linear of ``kind`` is inside its quantize."""
        return kind in INPUT_GAIN_KINDS or (kind in VALUE_OF.values() and not self.folds_into_values)


def fitted_layers(model: AnyModel, recipe: Recipe, scheme: Scheme) -> tuple[dict[str, QuantizedLayer], dict[str, Fold]]:
    """Layers and folds of a quantized ``model``; ``scheme`` is that of the static ``recipe``."""
    layers = {name: layer for name, layer in scheme.layers.items() if isinstance(layer, SimulatedLayer)}
    steps = len(scheme.groups)
    some = {name: layer for name, layer in layers.items() if not recipe.float_steps(name, steps).all()}
    gains = {name: layer.gain.numpy() for name, layer in some.items() if layer.gain is not None}
    centers = {name: layer.center.numpy() for name, layer in some.items() if layer.center is not None}
    fitted = _Fitted(model, recipe, layers, gains, centers)
    return {name: _layer(fitted, name) for name in layers}, _folds(fitted)


def _folds(fitted: _Fitted) -> dict[str, Fold]:
    folds = modulation_folds(fitted.model, fitted.gains)
    for name, center in fitted.centers.items():
        block, kind = split(name)
        for place, modulated in MODULATES.items():
            if kind == modulated:
                shift = f"{block}.{place}_shift"
                folds[shift] = replace(folds[shift], center=center)
    return folds


def _layer(fitted: _Fitted, name: str) -> QuantizedLayer:
    layer, linear = fitted.layers[name], fitted.model.get_submodule(name)
    assert isinstance(linear, nn.Linear) and isinstance(layer.codes, StaticCodes)
    kept = fitted.recipe.float_steps(name, len(layer.codes.bits))
    gains = {each: gain for each, gain in fitted.gains.items() if each == name or fitted.folds_into_values}
    folded = fold_linear(name, linear, gains).weight.astype(np.float32)
    codes = None if kept.all() else layer.weight.numpy().astype(np.int8)
    scale = None if codes is None else _value_rows(fitted, name, layer.weight_scale.numpy())
    zero = layer.codes.zero.numpy()
    return QuantizedLayer(
        weight_q=codes,
        weight_scale=scale,
        bias=_bias(fitted, name, kept),
        input_gain=fitted.gains.get(name) if fitted.multiplies_input(split(name)[1]) else None,
        scale=layer.codes.scale.numpy(),
        zero_point=zero.astype(np.int8) if fitted.recipe.activation == "asymmetric" else None,
        float_steps=kept,
        weight_f=folded if kept.any() else None,
        sqnr_db=None if codes is None or scale is None else weight_sqnr_db(folded, codes, scale),
    )


def _bias(fitted: _Fitted, name: str, kept: NDArray[np.bool_]) -> Floats:
    """float32 [N] where it is the same at every step and branch, else [steps, 2, N]."""
    layer, linear = fitted.layers[name], fitted.model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    bias = layer.bias.double().numpy().copy()
    plain = linear.bias.detach().double().numpy()
    if name in fitted.centers:
        weight = linear.weight.detach().double().numpy() / fitted.gains.get(name, np.float32(1))
        plain = plain + fitted.centers[name].astype(np.float64) @ weight.T
    bias[kept] = np.broadcast_to(plain, bias.shape)[kept]
    bias, partner = _value_rows(fitted, name, bias), _partner(name)
    if partner in fitted.centers:
        bias[..., -fitted.centers[partner].shape[-1] :] -= fitted.centers[partner]
    table: Floats = bias.astype(np.float32)
    return table[0, 0] if (table == table[0, 0]).all() else table


def _value_rows(fitted: _Fitted, name: str, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """``values`` [..., N] of the outputs of ``name``, those of V times the gain of the proj that reads them."""
    gain = fitted.gains.get(_partner(name)) if fitted.folds_into_values else None
    if gain is None:
        return values
    return np.concatenate([values[..., : -len(gain)], values[..., -len(gain) :] * gain], -1).astype(values.dtype)


def _partner(name: str) -> str:
    """The proj that reads the V rows of ``name``, or what is no layer."""
    block, kind = split(name)
    return f"{block}.{VALUE_OF.get(kind)}"
