"""DDIM and IDDPM from calibration to a checked bundle, on the tiny model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support import tiny_model
from torch import Tensor

from tvm_flow.calibrate import load_ranges
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import ConfigError
from tvm_flow.export import Exported
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_golden, read_manifest
from tvm_flow.quantize.fake import FakeQuant
from tvm_flow.quantize.quantized import QuantizedModel
from tvm_flow.run import Bundle
from tvm_flow.sampler import Prediction, SamplerConfig, denoise, drawn_from, model_outputs, step_updates
from tvm_flow.target.spec import load_target

pytestmark = pytest.mark.usefixtures("kernels_once")
SIZE = {"cfg_scale": 2.0, "fps": 8.0, "frames": 3, "height": 32, "width": 32}
SAMPLERS = {
    "ddim": SamplerConfig(name="ddim", steps=3, eta=0.5, **SIZE),  # type: ignore[arg-type]
    "iddpm": SamplerConfig(name="iddpm", steps=3, **SIZE),  # type: ignore[arg-type]
}
CHANNELS = {"ddim": 4, "iddpm": 8}


@dataclass(frozen=True)
class Built:
    """What every stage made for one sampler."""

    config: SamplerConfig
    ranges: Path
    quantized: QuantizedModel
    exported: Exported
    compiled: Compiled


@pytest.fixture(scope="module", params=SAMPLERS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    config, folder = SAMPLERS[request.param], tmp_path_factory.mktemp(request.param)
    ranges = tiny_model.make_ranges(folder, config)
    quantized, exported = tiny_model.make_export(ranges, "w8a8", folder)
    compiled = compile_bundle(
        exported, load_target("host"), folder / "bundle", CompileOptions(threads=1, progress=False)
    )
    return Built(config, ranges, quantized, exported, compiled)


def test_every_file_names_the_sampler_and_holds_its_tables(built: Built) -> None:
    config = built.config
    assert load_ranges(built.ranges).sampler == built.quantized.sampler == config
    assert SamplerConfig.from_dict(built.exported.sampler) == config
    assert read_manifest(built.compiled.bundle).sampler == config.to_dict()
    for table in (built.quantized.updates, built.exported.updates):
        np.testing.assert_array_equal(table, step_updates(config))
    with Bundle.open(built.compiled.bundle, threads=1, sampler=config) as bundle:
        np.testing.assert_array_equal(bundle.info.updates, step_updates(config))
        assert bundle.info.timesteps == tuple(config.timesteps())
        assert bundle.info.guided_channels == 3
        assert bundle.info.output_shape == (CHANNELS[config.name], *tiny_model.LATENT[1:])


def test_the_bundle_was_compared_call_by_call_and_repeats(built: Built) -> None:
    exactness = built.compiled.exactness
    assert exactness["calls"] == exactness["expected_calls"] > 0
    assert min(exactness[key] for key in ("accumulators", "quantized", "floats", "constants")) > 0
    with Bundle.open(built.compiled.bundle, threads=2) as bundle:
        bundle.verify()


def test_the_variance_is_computed_only_where_it_is_needed(built: Built) -> None:
    graph = onnx.load(str(built.exported.graphs[0][0]), load_external_data=False).graph
    (output,) = graph.output
    shape = tuple(d.dim_value for d in output.type.tensor_type.shape.dim)
    assert shape == (CHANNELS[built.config.name], *tiny_model.LATENT[1:])


def latents(built: Built, predict: Prediction) -> np.ndarray:
    golden, config = read_golden(built.compiled.bundle), built.config
    start = torch.from_numpy(golden.noise)[None].double()
    return denoise(predict, start, config, drawn_from(0, tiny_model.LATENT))[0].numpy()


def test_latents_are_those_of_the_float64_sampler(built: Built) -> None:
    """As in test_compile: the fake-quantized model rounds the same tensors; 148 dB here, and int8 itself 65 dB."""
    tokens, mask = tiny_model.embed(["a longer one"])
    null = torch.from_numpy(built.quantized.params["y_embedder.y_embedding"])[None]

    def fake(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        halves = [FakeQuant(built.quantized, step, b)(z.float(), (tokens, null)[b], mask) for b in range(2)]
        return halves[0], halves[1]

    got = read_golden(built.compiled.bundle).latents
    in_float = model_outputs(tiny_model.make_model(), tokens, mask, built.config)
    assert psnr_db(latents(built, fake), got) > 85
    assert psnr_db(latents(built, in_float), got) < 75


def test_an_export_whose_tables_are_of_another_sampler_is_refused(built: Built, tmp_path: Path) -> None:
    other = replace(built.config, steps=4)
    forged = replace(built.exported, sampler=other.to_dict())
    with pytest.raises(ConfigError, match=r'step 0: expected a timestep and an update of the sampler .*"steps": 4'):
        compile_bundle(forged, load_target("host"), tmp_path / "b", CompileOptions(threads=1, progress=False))
    assert not (tmp_path / "b").exists()
