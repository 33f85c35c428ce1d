"""A quantized model between integer keeps the blocks that the recipe's simulation runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.integer_blocks import PROMPTS, denoising_of, integer_model
from support.integer_models import RECIPE, quantized_integers
from support.tiny_model import embed

from tvm_flow.calibrate import calibrate, load_ranges
from tvm_flow.errors import ConfigError, QuantizeError
from tvm_flow.numerics.integer_program import Recorder
from tvm_flow.numerics.tosa_operators import Array
from tvm_flow.quantize import QuantizedModel, Recipe, load_quantized, quantize_model, save_quantized
from tvm_flow.quantize.integer_block import BlockWriter
from tvm_flow.quantize.integer_model import QuantizedBlocks
from tvm_flow.quantize.integer_parts import IntegerBlock
from tvm_flow.quantize.integer_scheme import BlockRunner, in_integers
from tvm_flow.quantize.simulated import simulated_outputs, simulating

NAMES = ("spatial_blocks.0", "blocks.0")
STEP = 1


@pytest.fixture(scope="module", params=NAMES)
def quantized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, QuantizedModel]:
    """The first block's name, and the model."""
    return request.param, quantized_integers(request.param, tmp_path_factory.mktemp("integer"))


def simulated_blocks(name: str, quantized: QuantizedModel) -> dict[tuple[str, int], IntegerBlock]:
    """By name and branch, of step 1, given what depends on time as ``quantized`` has it: torch's batches round anew."""
    model, integers, _ = integer_model(name)
    t0 = torch.from_numpy(quantized.step_records[STEP, : 6 * 32]).expand(2, -1)
    denoising = denoising_of(name)
    z = torch.randn(1, *denoising.latent, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), simulating(model, integers.layers) as clock:
        outputs = simulated_outputs(model, clock, embed(["short"]), denoising.sampler)
        with in_integers(model, integers, clock) as runners:
            for each, runner in runners.items():
                model.get_submodule(each).__dict__["forward"] = _with_time(runner, t0)
            outputs(z, STEP, float(denoising.sampler.timesteps()[STEP]))
    return {(name, branch): block for name, each in runners.items() for (_, branch), block in each.made.items()}


def _with_time(runner: BlockRunner, t0: torch.Tensor) -> Callable[..., torch.Tensor]:
    return lambda x, y, bias, _, *rest: runner(x, y, bias, t0, *rest)


def constants(block: IntegerBlock, tokens: int) -> tuple[str, list[Array]]:
    """The block's program, and what it is given."""
    recorder = Recorder()
    specs = (((1, tokens, 32), "int16"), ((1, 6, 64), "int8"), ((1, 1, 6), "int32"))
    output = BlockWriter(recorder, block).run(*(recorder.input(*spec) for spec in specs))
    return recorder.program(output).to_text(), recorder.arrays


def test_blocks_are_those_of_the_simulation(quantized: tuple[str, QuantizedModel]) -> None:
    name, model = quantized
    blocks = QuantizedBlocks(model)
    tokens = len(model.tables["position_embedding"]) * denoising_of(name).latent[1]
    for (block, branch), simulated in simulated_blocks(name, model).items():
        (text, arrays), (known, wanted) = (
            constants(each, tokens) for each in (blocks.block(block, STEP, branch), simulated)
        )
        assert text == known and len(arrays) == len(wanted)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(arrays, wanted, strict=True))
    assert blocks.unit[STEP, 0] == np.float32(blocks.block(block, STEP, 0).unit)


def test_the_file_keeps_it(quantized: tuple[str, QuantizedModel], tmp_path: Path) -> None:
    _, model = quantized
    save_quantized(tmp_path / "q.safetensors", model)
    again = load_quantized(tmp_path / "q.safetensors")
    assert again.recipe == RECIPE and again.reach.keys() == model.reach.keys()
    assert all(np.array_equal(again.reach[name], most) for name, most in model.reach.items())
    assert max(most.shape[-1] for most in model.reach.values()) == 3


def test_gains_stay_before_their_own_layers(quantized: tuple[str, QuantizedModel]) -> None:
    _, model = quantized
    assert all(layer.input_gain is not None for layer in model.layers.values())
    assert all(fold.gain is None for fold in model.folds.values())


def test_it_cannot_be_made_without_samples_and_reach(tmp_path: Path) -> None:
    denoising = denoising_of("blocks.0")
    calibrate(denoising, PROMPTS, embed, tmp_path / "ranges.safetensors", progress=False)
    ranges, (_, _, reach) = load_ranges(tmp_path / "ranges.safetensors"), integer_model("blocks.0")
    for given in ({}, {"reach": reach}):
        with pytest.raises(ConfigError, match="recipe: between: expected samples of inputs to fit on"):
            quantize_model(denoising.model, ranges, RECIPE, **given)


def test_a_model_of_another_recipe_has_no_such_blocks(quantized: tuple[str, QuantizedModel]) -> None:
    _, model = quantized
    fields = {**vars(model), "recipe": Recipe()}
    with pytest.raises(QuantizeError, match="reach: expected one exactly where the recipe is between integer"):
        QuantizedModel(**fields)
    with pytest.raises(QuantizeError, match="reach: expected that of a recipe between integer, got none"):
        QuantizedBlocks(QuantizedModel(**{**fields, "reach": {}}))
