"""The whole-step reference against onnxruntime on a real exported graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from tvm_flow.calibrate.prompts import CalibrationPrompt
from tvm_flow.calibrate.run import Denoising, calibrate
from tvm_flow.demo import LATENT_SHAPE, demo_sampler, load_captions, load_model
from tvm_flow.export import export
from tvm_flow.export.graph import MASKED
from tvm_flow.graph.constants import evaluate
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.model import Video
from tvm_flow.numerics.step import execute_step
from tvm_flow.quantize.build import quantize_model
from tvm_flow.quantize.recipe import Recipe


@pytest.fixture(scope="module")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("step")
    model, captions = load_model(), load_captions()
    prompts = [CalibrationPrompt("a red sneaker moving left", 0)]
    denoising = Denoising(model, demo_sampler(), LATENT_SHAPE)
    ranges = calibrate(denoising, prompts, captions.batch, folder / "ranges.safetensors", progress=False)
    quantized = quantize_model(model, ranges, Recipe())
    return export(quantized, folder / "export", steps=range(9, 10), progress=False).graphs[0][0]


def test_step_of_the_demo_model_matches_onnxruntime(graph_path: Path) -> None:
    graph = import_graph(graph_path)
    program = partition(graph)
    tokens, mask = load_captions().batch(["a red sneaker moving left"])
    inputs = {
        "z": torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(3)).numpy(),
        "y": tokens[0].numpy(),
        "mask": np.where(mask[0].numpy(), 0, MASKED).astype(np.float32),
    }
    constants = {name: evaluate(constant, graph.given) for name, constant in graph.constants.items()}

    tensors = execute_step(program.kernels, program.calls, inputs | constants)

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = ort.InferenceSession(str(graph_path), options).run(None, inputs)[0]
    got = tensors[program.output]
    # A code next to a tie may fall either way in float32 and shifts all that follows, so two right evaluations differ
    # by up to what quantization itself costs; a wrong scale, zero point or weight anywhere costs tens of dB more.
    with torch.no_grad():
        sampler = demo_sampler()
        t = torch.tensor([sampler.timesteps()[9]], dtype=torch.float32)
        z, video = torch.from_numpy(inputs["z"])[None], Video(sampler.fps, 32, 32)
        exact = load_model()(z, t, tokens, mask, video)[0, :8].numpy()
    assert mean_square(got - expected) < mean_square(expected - exact)
    assert {str(t.dtype) for t in tensors.values()} >= {"int8", "float32"}


def mean_square(x: np.ndarray) -> float:
    return float(np.mean(x.astype(np.float64) ** 2))
