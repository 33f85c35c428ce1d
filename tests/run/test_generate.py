"""The binding runs the toy model bit for bit like numpy."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import toy_bundle

from tvm_flow.errors import BundleError, PromptError, RuntimeFailure
from tvm_flow.pack import Contents, Prompt, write_bundle
from tvm_flow.run import Bundle, Workers


def assert_same_bits(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert got.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


def test_info(bundle: Bundle, contents: Contents) -> None:
    info = bundle.info
    assert (info.latent_shape, info.text_tokens, info.text_channels) == (toy_bundle.SHAPE, 3, 4)
    assert (info.steps, info.branches, info.groups, info.guided_channels) == (4, 2, 2, 3)
    assert info.cfg_scale == contents.cfg_scale
    assert info.output_shape == toy_bundle.SHAPE
    assert info.sampler == contents.sampler
    assert info.timesteps == tuple(contents.timesteps)
    np.testing.assert_array_equal(info.updates, contents.updates)
    assert (info.arena_bytes, info.step_bytes, info.weights_bytes) == (1024, 800, 512)
    assert info.prompt_bytes == 2 * 144
    assert info.threads == 2


@pytest.mark.parametrize("step", range(toy_bundle.STEPS))
@pytest.mark.parametrize("branch", range(toy_bundle.BRANCHES))
def test_velocity(bundle: Bundle, contents: Contents, step: int, branch: int) -> None:
    request = toy_bundle.make_request(step)
    got = bundle.velocity(step, branch, request.noise, request.cond)
    assert_same_bits(got, toy_bundle.velocity(contents, step, branch, request.noise, request.cond))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_generate_does_not_depend_on_threads(bundle_dir: Path, contents: Contents, threads: int) -> None:
    request = toy_bundle.make_request(77)
    with Bundle.open(bundle_dir, threads=threads) as bundle:
        assert bundle.info.threads == threads
        for _ in range(20):
            got = bundle.generate(request.noise, request.cond, request.uncond)
            assert_same_bits(got, toy_bundle.generate(contents, request))


@pytest.mark.parametrize(("threads", "tasks"), [(1, 7), (2, 3), (3, 8), (2, 64)])
def test_generate_does_not_depend_on_how_loops_are_cut(
    bundle_dir: Path, contents: Contents, threads: int, tasks: int
) -> None:
    request = toy_bundle.make_request(78)
    with Bundle.open(bundle_dir, workers=Workers(threads, tasks_per_thread=tasks)) as bundle:
        got = bundle.generate(request.noise, request.cond, request.uncond)
    assert_same_bits(got, toy_bundle.generate(contents, request))


def test_bound_threads_compute_the_same_and_the_caller_is_free_again(bundle_dir: Path, contents: Contents) -> None:
    request, mine = toy_bundle.make_request(79), os.sched_getaffinity(0)
    seen: list[set[int]] = []
    traced: list[set[int]] = []
    with Bundle.open(bundle_dir, workers=Workers(cpus=sorted(mine))) as bundle:
        assert bundle.info.threads == len(mine) and os.sched_getaffinity(0) == mine
        with bundle.trace(lambda _: traced.append(os.sched_getaffinity(0))):
            got = bundle.generate(
                request.noise, request.cond, request.uncond, lambda *_: seen.append(os.sched_getaffinity(0))
            )
    assert_same_bits(got, toy_bundle.generate(contents, request))
    assert os.sched_getaffinity(0) == mine and seen == [mine] * contents.steps
    assert traced and all(cpus == {min(mine)} for cpus in traced), "kernels run where they are bound"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": [1023]}, r"options\.cpus\[0\]: expected a CPU that is there, .* got 1023"),
        ({"cpus": [0], "threads": 2}, "expected a CPU for each of 2 threads, got 1"),
        ({"cpus": [0, 0]}, "expected each CPU once, got 0 again"),
        ({"cpus": [-1]}, r"cpus: expected whole numbers from 0 to 2\*\*32 - 1, got -1"),
        ({"threads": 2**32}, "threads: expected whole numbers"),
        ({"tasks_per_thread": 65}, "expected at most 64, got 65"),
    ],
)
def test_threads_that_cannot_be_had(bundle_dir: Path, options: dict[str, Any], message: str) -> None:
    mine = os.sched_getaffinity(0)
    with pytest.raises(RuntimeFailure, match=message):
        Bundle.open(bundle_dir, workers=Workers(**options))
    assert os.sched_getaffinity(0) == mine


@pytest.mark.parametrize("guided", [0, 1, 3, 4])
def test_guidance_reaches_only_the_guided_channels(tmp_path: Path, libraries: tuple[Path, Path], guided: int) -> None:
    contents = toy_bundle.make_contents(libraries, guided_channels=guided)
    request = toy_bundle.make_request(5)
    write_bundle(tmp_path / "b", contents)
    with Bundle.open(tmp_path / "b") as bundle:
        got = bundle.generate(request.noise, request.cond, request.uncond)
        other = replace(request.uncond, tokens=request.uncond.tokens + np.float32(1))
        changed = bundle.generate(request.noise, request.cond, other) != got
    assert_same_bits(got, toy_bundle.generate(contents, request))
    assert not changed[guided:].any() and changed[:guided].any() == (guided > 0)


def test_one_branch_needs_no_guidance(tmp_path: Path, contents: Contents) -> None:
    single = replace(contents, variants=[branches[:1] for branches in contents.variants])
    request = toy_bundle.make_request(6)
    write_bundle(tmp_path / "b", single)
    with Bundle.open(tmp_path / "b") as bundle:
        got = bundle.generate(request.noise, request.cond, request.uncond)
        assert bundle.info.branches == 1
        with pytest.raises(RuntimeFailure, match="branch below 1, got 0 and 1"):
            bundle.velocity(0, 1, request.noise, request.cond)
    assert_same_bits(got, toy_bundle.generate(single, request))


def test_two_bundles_in_two_threads(bundle_dir: Path, contents: Contents) -> None:
    requests = [toy_bundle.make_request(seed) for seed in (11, 12)]
    got: dict[int, list[NDArray[np.float32]]] = {0: [], 1: []}

    def run(which: int) -> None:
        request = requests[which]
        with Bundle.open(bundle_dir, threads=2) as bundle:
            for _ in range(30):
                got[which].append(bundle.generate(request.noise, request.cond, request.uncond))

    threads = [threading.Thread(target=run, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, request in enumerate(requests):
        expected = toy_bundle.generate(contents, request)
        assert len(got[which]) == 30
        for latents in got[which]:
            assert_same_bits(latents, expected)


def test_noise_is_not_changed(bundle: Bundle) -> None:
    request = toy_bundle.make_request(3)
    before = request.noise.copy()
    bundle.generate(request.noise, request.cond, request.uncond)
    assert_same_bits(request.noise, before)


def test_strided_inputs_are_accepted(bundle: Bundle) -> None:
    request = toy_bundle.make_request(3)
    strided = np.repeat(request.noise, 2, axis=3)[..., ::2]
    assert not strided.flags.c_contiguous
    tokens = np.asfortranarray(request.cond.tokens)
    got = bundle.generate(strided, Prompt(tokens, request.cond.mask), request.uncond)
    assert_same_bits(got, bundle.generate(request.noise, request.cond, request.uncond))


def test_verify_accepts_the_golden_latents(bundle: Bundle) -> None:
    bundle.verify()


def test_verify_sees_one_bit(tmp_path: Path, contents: Contents) -> None:
    latents = contents.golden.latents.copy()
    latents.view(np.int32).ravel()[17] ^= 1
    write_bundle(tmp_path / "b", replace(contents, golden=replace(contents.golden, latents=latents)))
    with (
        Bundle.open(tmp_path / "b") as bundle,
        pytest.raises(BundleError, match="1 of 32 latents differ; first 17"),
    ):
        bundle.verify()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_golden_latents_may_be_those_of_the_first_steps(tmp_path: Path, contents: Contents, steps: int) -> None:
    golden = contents.golden
    request = toy_bundle.Request(golden.noise, golden.cond, golden.uncond)
    latents = toy_bundle.generate(contents, request, steps=steps)
    write_bundle(tmp_path / "b", replace(contents, golden=replace(golden, latents=latents, steps=steps)))
    with Bundle.open(tmp_path / "b") as bundle:
        bundle.verify()
        assert_same_bits(bundle.generate(*vars(request).values()), golden.latents)
    other = replace(golden, latents=latents, steps=steps % 4 + 1)
    write_bundle(tmp_path / "b", replace(contents, golden=other))
    with Bundle.open(tmp_path / "b") as bundle, pytest.raises(BundleError, match="latents differ"):
        bundle.verify()


def test_wrong_shapes_are_refused(bundle: Bundle) -> None:
    request = toy_bundle.make_request(3)
    with pytest.raises(RuntimeFailure, match=r"noise: expected float32 \(4, 2, 2, 2\), got float64"):
        bundle.generate(request.noise.astype(np.float64), request.cond, request.uncond)  # type: ignore[arg-type]
    with pytest.raises(RuntimeFailure, match=r"z: expected .* \(4, 8\)"):
        bundle.velocity(0, 0, request.noise.reshape(4, 8), request.cond)
    with pytest.raises(PromptError, match=r"uncond: expected float32 tokens \(3, 4\) and mask \(3,\)"):
        bundle.generate(request.noise, request.cond, Prompt(request.cond.tokens[:2], request.cond.mask))
    with pytest.raises(RuntimeFailure, match="step below 4 and branch below 2, got 4 and 0"):
        bundle.velocity(4, 0, request.noise, request.cond)


@pytest.mark.parametrize(("part", "value"), [("tokens", np.nan), ("tokens", np.inf), ("mask", np.nan), ("mask", 1.0)])
def test_a_prompt_of_what_is_no_number_is_refused(bundle: Bundle, part: str, value: float) -> None:
    """Quantized it would be a number."""
    request = toy_bundle.make_request(3)
    damaged = getattr(request.cond, part).copy()
    damaged.flat[0] = value
    with pytest.raises(PromptError, match="uncond: expected finite tokens and a mask of 0 and below"):
        bundle.generate(request.noise, request.cond, replace(request.cond, **{part: damaged}))


def test_a_closed_bundle_says_so(bundle_dir: Path) -> None:
    bundle = Bundle.open(bundle_dir)
    bundle.close()
    bundle.close()
    with pytest.raises(RuntimeFailure, match="got a closed one; open it again"):
        bundle.verify()
