"""A block in integers is the float block but for what its scales lose, and a model that ran by such is itself again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.integer_blocks import BLOCKS, block_inputs, denoising_of, integer_block, integer_model
from support.tiny_model import SAMPLER, embed

from tvm_flow.errors import ConfigError, QuantizeError
from tvm_flow.numerics.integer_program import Recorder
from tvm_flow.numerics.tosa_operators import NumpyOperators
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.integer_block import BlockWriter
from tvm_flow.quantize.integer_scheme import IntegerModel, in_integers
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.sampler import model_outputs


@pytest.mark.parametrize("name", BLOCKS)
def test_a_model_of_integer_blocks_is_near_that_of_simulated_linears(name: str) -> None:
    model, integers, _ = integer_model(name)
    caption, z = (
        embed(["short", "a longer one"]),
        torch.randn(2, *(4, 3, 6, 4), generator=torch.Generator().manual_seed(5)),
    )
    exact = model_outputs(model, *caption, SAMPLER)(z, 1, 700.0)
    with torch.no_grad(), simulating(model, integers.layers) as clock:
        outputs = simulated_outputs(model, clock, caption, SAMPLER)
        linears = outputs(z, 1, 700.0)
        with in_integers(model, integers, clock):
            got = outputs(z, 1, 700.0)
    for ours, theirs, true in zip(got, linears, exact, strict=True):
        assert not torch.equal(ours, theirs)
        assert (ours - true).norm() < 2 * (theirs - true).norm(), "8 bits of q, k and v are all that is lost beside"
    again = model_outputs(model, *caption, SAMPLER)(z, 1, 700.0)
    assert all(torch.equal(a, b) for a, b in zip(exact, again, strict=True))


@pytest.mark.parametrize("name", BLOCKS)
def test_videos_do_not_know_of_each_other(name: str) -> None:
    writer = BlockWriter(NumpyOperators(), integer_block(name))
    x, y, mask = block_inputs(batch=2)
    together = writer.run(x, writer.caption_codes(y), mask)
    assert together.dtype == np.int16 and len(np.unique(together)) > 100
    alone = [writer.run(x[i : i + 1], writer.caption_codes(y[i : i + 1]), mask) for i in range(2)]
    assert np.array_equal(together, np.concatenate(alone))


def test_what_is_added_to_each_frame_is_given_once_for_a_frame() -> None:
    """A constant of all tokens would be as large as the activations, at every step and branch."""
    block, (x, y, mask) = integer_block("blocks.0"), block_inputs()
    assert any(part.added is not None for part in block.attentions)
    ops = Recorder()
    kv = BlockWriter(NumpyOperators(), block).caption_codes(y)
    BlockWriter(ops, block).run(*(ops.input(array.shape, str(array.dtype)) for array in (x, kv, mask)))
    assert all((array.ndim == 4 and array.dtype == np.int8) or array.size < x.size for array in ops.arrays), "weights"


def test_padding_of_a_caption_has_no_influence() -> None:
    writer = BlockWriter(NumpyOperators(), integer_block("spatial_blocks.0"))
    x, y, mask = block_inputs()
    other = y.copy()
    other[:, 4:] = 99
    assert np.array_equal(*(writer.run(x, writer.caption_codes(each), mask) for each in (y, other)))
    other[:, 3] = 99
    assert not np.array_equal(*(writer.run(x, writer.caption_codes(each), mask) for each in (y, other)))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"method": "dynamic"}, "method"),
        ({"activation": "asymmetric"}, "activation"),
        ({"keep_float": ["*.mlp.fc2"]}, "keep_float"),
        ({"widths": {"weights": 4}}, "widths"),
        ({"fit": {"center": "group"}}, r"fit\.center"),
    ],
)
def test_recipes_that_blocks_in_integers_have_no_place_for_are_refused(values: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"recipe: {key}: expected .* with between integer"):
        Recipe.from_dict({**values, "between": "integer"})


def test_the_recipe_asks_for_samples_and_is_read_back() -> None:
    recipe = Recipe(between="integer")
    assert recipe.fitted == ("between",) and not recipe.simulated_only
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert "between" not in Recipe().to_dict()


def test_linears_that_are_not_static_are_refused() -> None:
    _, integers, reach = integer_model("blocks.0")
    name = next(iter(integers.layers))
    with pytest.raises(QuantizeError, match=f"{name}: expected a static, symmetric layer"):
        IntegerModel({**integers.layers, name: object()}, reach)  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["spatial_blocks.0", "blocks.0"])
def test_reach_covers_what_the_blocks_give(name: str) -> None:
    _, _, reach = integer_model(name)
    model = denoising_of(name).model
    last: list[torch.Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda *seen: last.append(seen[2]))
    caption = embed(["short"])
    model_outputs(model, *caption, SAMPLER)(torch.randn(1, 4, 3, 6, 4), 0, 900.0)
    handle.remove()
    assert 0.2 < float(last[0].abs().max()) / float(reach["residual"][0].max()) < 3
    assert reach[f"{name}.attn.qkv"].shape == (3, 2, 96)
