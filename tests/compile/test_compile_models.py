"""Other models and sizes than the tiny STDiT3 through the whole build: STDiT, and latents that do not divide.

STDiT is denoised by the samplers that it was made for, which guide 3 of its 4 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support import tiny_model

from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.compile.step_build import golden_input
from tvm_flow.export import Exported
from tvm_flow.model import AnyConfig
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_golden, verify_bundle
from tvm_flow.quantize.fake import fake_outputs
from tvm_flow.quantize.quantized import QuantizedModel
from tvm_flow.run import Bundle
from tvm_flow.sampler import SamplerConfig, denoise, drawn_from, model_outputs
from tvm_flow.target.spec import load_target

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """What is built."""

    config: AnyConfig
    latent: tuple[int, int, int, int]
    recipe: str = "w8a8"
    sampler: SamplerConfig = tiny_model.SAMPLER


DDIM = SamplerConfig(name="ddim", steps=3, cfg_scale=2.0)
IDDPM = SamplerConfig(name="iddpm", steps=3, cfg_scale=2.0)
CASES = {
    "STDiT": Case(tiny_model.STDIT_CONFIG, tiny_model.LATENT, "w8a8_first_float", DDIM),
    "STDiT padded": Case(tiny_model.STDIT_CONFIG, (4, 2, 5, 3), "w8a8_asymmetric", IDDPM),
    "STDiT3 padded": Case(tiny_model.CONFIG, (4, 3, 3, 5)),
}


@dataclass(frozen=True)
class Built:
    """A case after every stage."""

    case: Case
    quantized: QuantizedModel
    exported: Exported
    compiled: Compiled


@pytest.fixture(scope="module", params=CASES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("models")
    ranges = tiny_model.make_ranges(folder, case.sampler, case.config, case.latent)
    quantized, exported = tiny_model.make_export(ranges, case.recipe, folder, case.config)
    output: Path = folder / "bundle"
    return Built(
        case,
        quantized,
        exported,
        compile_bundle(exported, load_target("host"), output, CompileOptions(threads=1, progress=False)),
    )


def test_every_kernel_call_was_compared(built: Built) -> None:
    exactness = built.compiled.exactness
    assert built.compiled.groups == (2 if built.case.recipe == "w8a8_first_float" else 1)
    assert built.compiled.left_in_float == ()
    assert exactness["calls"] == exactness["expected_calls"] > 0
    assert min(exactness[key] for key in ("accumulators", "quantized", "floats", "constants")) > 0
    assert exactness["near_ties"] <= exactness["quantized"] // 1000
    assert exactness["worst_float"] <= 1
    assert verify_bundle(built.compiled.bundle).steps == 3


def test_the_bundle_repeats_its_latents_on_any_number_of_threads(built: Built) -> None:
    golden = read_golden(built.compiled.bundle)
    assert golden.latents.shape == built.case.latent
    for threads in (1, 2):
        with Bundle.open(built.compiled.bundle, threads=threads) as bundle:
            again = bundle.generate(golden.noise, golden.cond, golden.uncond)
        assert again.tobytes() == golden.latents.tobytes(), threads


def test_both_branches_share_the_mask_of_the_prompt(built: Built) -> None:
    """The null half of guidance attends to as many tokens as its prompt has."""
    golden = golden_input(built.exported)
    np.testing.assert_array_equal(golden.cond.mask, golden.uncond.mask)
    assert int((golden.uncond.mask == 0).sum()) == built.exported.caption_length == 5


def test_latents_are_those_of_the_fake_quantized_loop(built: Built) -> None:
    """As in test_compile.py: float sums differ in order, a code at a tie costs 30 dB less than int8 itself does."""
    golden = read_golden(built.compiled.bundle)
    tokens, mask = tiny_model.embed(["a longer one"])
    noise, drawn = torch.from_numpy(golden.noise)[None], drawn_from(0, built.case.latent)
    wanted = denoise(fake_outputs(built.quantized, tokens, mask), noise, built.case.sampler, drawn)[0].numpy()
    assert psnr_db(wanted, golden.latents) > 85
    in_float = model_outputs(tiny_model.make_model(built.case.config), tokens, mask, built.case.sampler)
    exact = denoise(in_float, noise, built.case.sampler, drawn)[0].numpy()
    assert 30 < psnr_db(exact, golden.latents) < 80, "int8 costs more than the difference that is allowed above"
