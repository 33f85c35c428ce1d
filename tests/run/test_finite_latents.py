"""What is not finite ends a run, and the message says at which step and in which kernel it came to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import toy_bundle

from tvm_flow.errors import NotFiniteError, PromptError, RuntimeFailure
from tvm_flow.pack import Contents, Prompt, write_bundle
from tvm_flow.run import Bundle, TracedCall
from tvm_flow.run.not_finite import FoundError, NotFiniteFinder

LARGEST = float(np.finfo(np.float32).max)


def request_of(contents: Contents) -> toy_bundle.Request:
    golden = contents.golden
    return toy_bundle.Request(golden.noise, golden.cond, golden.uncond)


@pytest.mark.parametrize("branch", [0, 1])
def test_the_kernel_that_overflows_is_named(contents: Contents, bundle: Bundle, branch: int) -> None:
    """Tokens near the end of float32 are numbers, and two of them are more than it holds."""
    request = request_of(contents)
    tokens = np.full_like(request.cond.tokens, LARGEST)
    prompts = [request.cond, request.uncond]
    prompts[branch] = Prompt(tokens, np.zeros_like(request.cond.mask))
    words = rf"step 0, branch {branch} .*expected finite numbers.*first kernel that makes one is toy_\w+ at step 0, "
    with pytest.raises(NotFiniteError, match=words + rf"branch {branch}, call \d"):
        bundle.generate(request.noise, *prompts)
    assert issubclass(NotFiniteError, RuntimeFailure)
    assert bundle.generate(*vars(request).values()).tobytes() == contents.golden.latents.tobytes(), "the handle goes on"


@pytest.mark.parametrize("branch", [0, 1])
def test_a_velocity_by_itself_is_looked_through(contents: Contents, bundle: Bundle, branch: int) -> None:
    z, hot = contents.golden.noise, Prompt(np.full((3, 4), LARGEST, np.float32), np.zeros(3, np.float32))
    words = rf"step 1, branch {branch} .*expected finite numbers.*first kernel that makes one is toy_\w+ at step 1, "
    with pytest.raises(NotFiniteError, match=words + rf"branch {branch}, call \d"):
        bundle.velocity(1, branch, z, hot)
    with pytest.raises(PromptError, match="prompt: expected finite tokens"):
        bundle.velocity(1, branch, z, Prompt(np.full((3, 4), np.nan, np.float32), hot.mask))
    expected = toy_bundle.velocity(contents, 1, branch, z, contents.golden.cond)
    assert bundle.velocity(1, branch, z, contents.golden.cond).tobytes() == expected.tobytes(), "the handle goes on"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_latents_are_looked_through_on_the_way_in(contents: Contents, bundle: Bundle, value: float) -> None:
    """Before any kernel, whose codes would hide it: NaN is quantized to a number."""
    request, calls = request_of(contents), list[TracedCall]()
    wrong = request.noise.copy()
    wrong[1, 0, 1, 1] = value
    given = rf"expected finite numbers, got {value} at 11 of 32; no kernel makes one of numbers: look at what was given"
    with bundle.trace(calls.append), pytest.raises(NotFiniteError, match=f"step 0, noise given to it: {given}"):
        bundle.generate(wrong, request.cond, request.uncond)
    with bundle.trace(calls.append), pytest.raises(NotFiniteError, match=f"step 2, latents given to it: {given}"):
        bundle.velocity(2, 0, wrong, request.cond)
    assert not calls
    assert bundle.generate(*vars(request).values()).tobytes() == contents.golden.latents.tobytes(), "the handle goes on"


def test_an_update_that_overflows_is_named_by_its_step(contents: Contents, tmp_path: Path) -> None:
    updates = contents.updates.copy()
    updates[2, 0] = 1e200
    write_bundle(tmp_path / "b", replace(contents, updates=updates))
    with (
        Bundle.open(tmp_path / "b", threads=1) as bundle,
        pytest.raises(NotFiniteError, match=r"step 2, latents after it: expected finite.*no kernel makes one"),
    ):
        bundle.generate(*vars(request_of(contents)).values())


def test_a_trace_of_ones_own_sees_one_run(contents: Contents, bundle: Bundle) -> None:
    request, seen = request_of(contents), list[TracedCall]()
    hot = Prompt(np.full_like(request.cond.tokens, LARGEST), np.zeros_like(request.cond.mask))
    with bundle.trace(seen.append), pytest.raises(NotFiniteError):
        bundle.generate(request.noise, hot, request.uncond)
    assert [call.call for call in seen] == [0, 1, 2]


def call(*args: np.ndarray) -> TracedCall:
    return TracedCall(3, 1, 7, "k7_exp", args)


def test_infinities_of_a_mask_are_no_fault() -> None:
    find, numbers = NotFiniteFinder(), np.ones(4, np.float32)
    mask = np.array([0, 0, -np.inf, -np.inf], np.float32)
    find(call(numbers, mask, numbers + mask))
    find(call(np.ones(4, np.int8), np.ones(4, np.int8)))
    with pytest.raises(FoundError, match=r"k7_exp at step 3, branch 1, call 7 of its plan: element \(2,\) of \(4,\)"):
        find(call(numbers, numbers + mask))
    with pytest.raises(FoundError, match="is nan"):
        find(call(mask, np.where(np.isinf(mask), np.float32(np.nan), mask)))
    find(call(np.full(4, np.nan, np.float32), np.full(4, np.nan, np.float32)))
