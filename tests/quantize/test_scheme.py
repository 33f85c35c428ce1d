"""What recipes fit on samples: each thing lowers the error that it is fitted for, and costs the bytes that it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tvm_flow.calibrate import Ranges
from tvm_flow.calibrate.samples import Samples
from tvm_flow.model import AnyModel
from tvm_flow.quantize import Recipe, Smoothing
from tvm_flow.quantize.recipe_parts import Fit, Override, Widths
from tvm_flow.quantize.scheme import Scheme, make_scheme
from tvm_flow.quantize.simulated import SimulatedLayer, StaticCodes

LOW = Widths(4, 4)


def errors(model: AnyModel, samples: Samples, scheme: Scheme) -> dict[str, torch.Tensor]:
    """Relative squared error of each layer's outputs on the samples, [steps, 2]."""
    found = {}
    for name, layer in scheme.layers.items():
        linear = model.get_submodule(name)
        exact = linear(samples[name].rows)
        got = torch.stack(
            [layer.run(rows.flatten(0, 1), step).view_as(exact[0]) for step, rows in enumerate(samples[name].rows)]
        )
        found[name] = (got - exact).square().sum((2, 3)) / exact.square().sum((2, 3))
    return found


def total(model: AnyModel, samples: Samples, recipe: Recipe) -> float:
    return float(sum(each.sum() for each in errors(model, samples, make_scheme(model, recipe, samples)).values()))


@pytest.mark.parametrize(
    "fit",
    [
        Fit(clip="mse"),
        Fit(weight_clip="mse"),
        Fit(rounding="gptq"),
        Fit(center="step"),
        Fit(correction="step"),
        Fit(correction="group"),
    ],
    ids=str,
)
def test_each_thing_that_is_free_lowers_the_error_of_the_layers(model: AnyModel, samples: Samples, fit: Fit) -> None:
    plain = Recipe(smoothing=None, widths=LOW)
    assert total(model, samples, dataclasses.replace(plain, fit=fit)) < total(model, samples, plain)


def test_a_clip_by_percentile_is_narrower_than_min_and_max(model: AnyModel, samples: Samples) -> None:
    wide = make_scheme(model, Recipe(), samples).layers
    narrow = make_scheme(model, Recipe(fit=Fit(clip="percentile")), samples).layers
    for name, layer in wide.items():
        other = narrow[name]
        assert isinstance(layer, SimulatedLayer) and isinstance(other, SimulatedLayer)
        assert isinstance(layer.codes, StaticCodes) and isinstance(other.codes, StaticCodes)
        assert (other.codes.scale <= layer.codes.scale).all()


def test_a_margin_widens_every_range(model: AnyModel, samples: Samples) -> None:
    plain = make_scheme(model, Recipe(), samples).layers
    wider = make_scheme(model, Recipe(fit=Fit(margin=1.25)), samples).layers
    for name, layer in plain.items():
        other = wider[name]
        assert isinstance(layer, SimulatedLayer) and isinstance(other, SimulatedLayer)
        assert isinstance(layer.codes, StaticCodes) and isinstance(other.codes, StaticCodes)
        torch.testing.assert_close(other.codes.scale, 1.25 * layer.codes.scale)


def test_searched_smoothing_has_no_worse_worst_step_than_a_fixed_one(model: AnyModel, samples: Samples) -> None:
    plain = Recipe(Smoothing(0.5), widths=LOW)
    searched = dataclasses.replace(plain, fit=Fit(alphas=(0.2, 0.5, 0.8)))
    before = errors(model, samples, make_scheme(model, plain, samples))
    after = errors(model, samples, make_scheme(model, searched, samples))
    assert all(float(after[name].max()) <= float(before[name].max()) * (1 + 1e-6) for name in before)
    assert any(float(after[name].max()) < 0.9 * float(before[name].max()) for name in before)


def test_steps_join_into_as_many_contiguous_groups_as_asked(model: AnyModel, samples: Samples) -> None:
    for count in (1, 2, 4):
        scheme = make_scheme(model, Recipe(groups=count), samples)
        assert sorted(scheme.groups) == list(scheme.groups) and set(scheme.groups) == set(range(count))
    one = make_scheme(model, Recipe(groups=1), samples).layers["spatial_blocks.0.mlp.fc1"]
    assert isinstance(one, SimulatedLayer) and isinstance(one.codes, StaticCodes)
    assert len(one.codes.scale.unique(dim=0)) == 1


def test_one_group_of_everything_free_adds_no_vector_to_a_step(model: AnyModel, samples: Samples) -> None:
    fit = Fit(clip="mse", weight_clip="mse", rounding="gptq", center="group", correction="group")
    one = make_scheme(model, Recipe(groups=1, fit=fit), samples)
    each = make_scheme(model, Recipe(fit=dataclasses.replace(fit, center="step", correction="step")), samples)
    steps = len(one.groups)
    assert one.bytes_per_step == len(one.layers) * 2 * 4 / steps
    outputs = sum(model.get_submodule(name).out_features for name in each.layers)
    assert each.bytes_per_step == len(each.layers) * 2 * 4 + 2 * 4 * outputs


def test_a_subtracted_mean_leaves_a_float_layer_what_it_was(model: AnyModel, samples: Samples) -> None:
    """With 8 bits and centers alone the error stays that of rounding: their product is in the bias, exactly."""
    centered = errors(model, samples, make_scheme(model, Recipe(fit=Fit(center="step")), samples))
    assert max(float(each.max()) for each in centered.values()) < 1e-3


def test_overrides_give_layers_and_steps_their_own_widths(model: AnyModel, samples: Samples) -> None:
    rules = (Override("*.mlp.fc2", weights=8), Override("*.mlp.fc2", activations=8, steps=(1, 2)))
    scheme = make_scheme(model, Recipe(widths=LOW, overrides=rules), samples)
    mine, other = scheme.layers["spatial_blocks.0.mlp.fc2"], scheme.layers["spatial_blocks.0.mlp.fc1"]
    assert isinstance(mine, SimulatedLayer) and isinstance(mine.codes, StaticCodes)
    assert isinstance(other, SimulatedLayer)
    assert mine.codes.bits == (4, 8, 8, 4)
    assert mine.weight.abs().max() == 127 and other.weight.abs().max() == 7


def test_the_samples_cover_what_calibration_saw(samples: Samples, ranges: Ranges) -> None:
    for name, layer in ranges.layers.items():
        mine = samples[name].ranges()
        for part in ("min", "max", "absmax"):
            np.testing.assert_array_equal(getattr(mine, part), getattr(layer, part), err_msg=name)
        assert samples[name].rows.shape == (4, 2, 40, layer.absmax.shape[-1])
