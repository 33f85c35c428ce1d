"""Every sampler in the C runtime, step by step against the float64 reference, from the same z and the same noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy_bundle
from torch import Tensor

from tvm_flow.errors import ConfigError, RuntimeFailure
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import Bundle, TracedCall
from tvm_flow.run.draw import gaussian
from tvm_flow.sampler import (
    SamplerConfig,
    ddim_step,
    guide_channels,
    iddpm_step,
    make_schedule,
    next_latent,
    seeded_noise,
)
from tvm_flow.sampler.update import Guidance

TOLERANCE = 1e-6
"""2^-24 |z'| from the one rounding to float32 stays below it while |z'| <= 16: tvm_flow.sampler.update."""
CONFIGS = [
    SamplerConfig(steps=30),
    SamplerConfig(steps=3, ratio=3.0, cfg_scale=1.3),
    SamplerConfig(name="ddim", steps=20, cfg_scale=2.0),
    SamplerConfig(name="ddim", steps=3),
    SamplerConfig(name="ddim", steps=10, eta=0.5, guided_channels=4),
    SamplerConfig(name="iddpm", steps=100, cfg_scale=2.0),
    SamplerConfig(name="iddpm", steps=3),
    SamplerConfig(name="iddpm", steps=1),
]
IDS = [f"{c.name}-{c.steps}-{c.eta}" for c in CONFIGS]


def reference(config: SamplerConfig, step: int, z: np.ndarray, both: list[np.ndarray], fresh: np.ndarray) -> Tensor:
    """One step of the float64 reference, [4, 2, 2, 2]."""
    cond, uncond, at, drawn = (torch.from_numpy(x.astype(np.float64))[None] for x in (*both, z, fresh))
    if config.name == "rflow":
        return (at + (uncond + config.cfg_scale * (cond - uncond)) * (config.dts()[step] / 1000))[0]
    guided, schedule = guide_channels(cond, uncond, config.cfg_scale, config.guided), make_schedule(config.steps)
    if config.name == "ddim":
        return ddim_step(at, guided, schedule, step, config.noise_share, drawn)[0]
    return iddpm_step(at, guided[:, :4], guided[:, 4:], drawn, schedule, step)[0]


class Run:
    """One run of a bundle: the latent before each step, the end, and what was drawn at which step."""

    def __init__(self, bundle: Bundle, request: toy_bundle.Request) -> None:
        self.latents: list[np.ndarray] = []
        self.drawn: dict[int, np.ndarray] = {}
        with bundle.trace(self.see):
            end = bundle.generate(request.noise, request.cond, request.uncond, draw=self.draw)
        self.latents.append(end)

    def see(self, call: TracedCall) -> None:
        if (call.branch, call.kernel) == (0, "toy_modulate"):
            self.latents.append(call.args[0].copy())

    def draw(self, step: int) -> np.ndarray:
        self.drawn[step] = np.random.default_rng(step).standard_normal(toy_bundle.SHAPE).astype(np.float32)
        return self.drawn[step]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_every_step_is_the_reference(config: SamplerConfig, tmp_path: Path) -> None:
    contents = toy_bundle.sampled_contents(tmp_path, config)
    write_bundle(tmp_path / "b", contents)
    request = toy_bundle.make_request(9)
    with Bundle.open(tmp_path / "b", threads=1, sampler=config) as bundle:
        bundle.verify()
        run = Run(bundle, request)
    assert len(run.latents) == config.steps + 1
    assert list(run.drawn) == (list(range(config.steps - 1)) if config.draws_noise else [])
    nothing = np.zeros(toy_bundle.SHAPE, np.float32)
    for step, (z, got) in enumerate(zip(run.latents, run.latents[1:], strict=False)):
        both = [toy_bundle.velocity(contents, step, b, z, (request.cond, request.uncond)[b]) for b in range(2)]
        fresh = run.drawn.get(step, nothing)
        want = reference(config, step, z, both, fresh).numpy()
        assert 0.01 < np.abs(want).max() < 16
        assert np.abs(got - want).max() <= TOLERANCE, step
        guidance = Guidance(contents.cfg_scale, contents.guided_channels)
        twin = next_latent(z, (both[0], both[1]), contents.updates[step], guidance, fresh)
        np.testing.assert_array_equal(got.view(np.int32), twin.view(np.int32))


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A toy bundle whose steps draw noise."""
    folder = tmp_path_factory.mktemp("drawing")
    contents = toy_bundle.sampled_contents(folder, SamplerConfig(name="iddpm", steps=4))
    write_bundle(folder / "b", contents)
    return folder / "b", contents


@pytest.mark.parametrize("seed", [0, 5, 2**64 - 1])
def test_the_runtime_draws_for_a_seed(drawing: tuple[Path, Contents], seed: int) -> None:
    directory, contents = drawing
    request = toy_bundle.make_request(3)
    with Bundle.open(directory) as bundle:
        got = bundle.generate(request.noise, request.cond, request.uncond, seed=seed)
        shown = bundle.generate(
            request.noise, request.cond, request.uncond, draw=lambda i: seeded_noise(seed, i + 1, toy_bundle.SHAPE)
        )
        other = bundle.generate(request.noise, request.cond, request.uncond, seed=seed ^ 1)
        assert bundle.info.output_shape == (8, 2, 2, 2)
        both = bundle.velocity(1, 0, request.noise, request.cond)
    np.testing.assert_array_equal(got, toy_bundle.generate(contents, request, seed))
    np.testing.assert_array_equal(got, shown)
    assert (got != other).all()
    np.testing.assert_array_equal(both, toy_bundle.velocity(contents, 1, 0, request.noise, request.cond))


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (7, 3), (2**64 - 1, 2**40)])
def test_gaussian_has_the_same_bits(seed: int, stream: int) -> None:
    ours = gaussian(seed, stream, (100_003,))
    np.testing.assert_array_equal(ours.view(np.int32), seeded_noise(seed, stream, (100_003,)).view(np.int32))


def test_what_the_variance_does_at_its_extremes(tmp_path: Path) -> None:
    """Variances far outside -1..1: the exponential is limited alike on both sides, and nothing traps."""
    contents = toy_bundle.sampled_contents(tmp_path, SamplerConfig(name="iddpm", steps=3))
    wild = contents.updates.copy()
    wild[:, 3:] = [[800.0, 0.0], [-900.0, 50.0], [0.0, 1e5]]
    wild[2, 2] = 1e-300  # with 1 the latents overflow, which ends the run
    wild[0:2, 2] = 1e-300
    request = toy_bundle.make_request(4)
    changed = replace(contents, updates=wild)
    golden = replace(contents.golden, latents=np.zeros(toy_bundle.SHAPE, np.float32))
    write_bundle(tmp_path / "b", replace(changed, golden=golden))
    with Bundle.open(tmp_path / "b") as bundle:
        run = Run(bundle, request)
    assert np.isfinite(run.latents[1]).all() and np.abs(run.latents[1]).max() > 1e3, "e^700 * 1e-300 is 1e4"
    for step in (0, 1):
        z, prompts = run.latents[step], (request.cond, request.uncond)
        both = [toy_bundle.velocity(changed, step, b, z, prompts[b]) for b in range(2)]
        want = next_latent(z, (both[0], both[1]), wild[step], Guidance(7.0, 3), run.drawn[step])
        np.testing.assert_array_equal(run.latents[step + 1], want)


def test_what_draw_raises_or_returns(drawing: tuple[Path, Contents]) -> None:
    request = toy_bundle.make_request(3)

    def angry(step: int) -> np.ndarray:
        raise KeyError(step)

    with Bundle.open(drawing[0]) as bundle:
        with pytest.raises(KeyError):
            bundle.generate(request.noise, request.cond, request.uncond, draw=angry)
        with pytest.raises(RuntimeFailure, match=r"noise of step 0: expected float32 \(4, 2, 2, 2\), got float64"):
            bundle.generate(request.noise, request.cond, request.uncond, draw=lambda _: np.zeros(toy_bundle.SHAPE))
        bundle.verify()


def test_another_sampler_is_refused_and_both_are_shown(drawing: tuple[Path, Contents]) -> None:
    with pytest.raises(ConfigError) as caught:
        Bundle.open(drawing[0], sampler=SamplerConfig(name="ddim", steps=20))
    message = str(caught.value)
    assert '"name": "iddpm"' in message and '"name": "ddim"' in message
    assert '"steps": 4' in message and '"steps": 20' in message
    assert message.endswith("calibrate, quantize, export and compile for the other sampler")
