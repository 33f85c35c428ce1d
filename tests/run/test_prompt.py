"""What depends on the prompt alone: computed once for a prompt, branch and group, and never taken for another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import toy_bundle
from support.toy_bundle import Request

from tvm_flow.pack import Contents, Prompt, write_bundle
from tvm_flow.run import Bundle, TracedCall


def generate(bundle: Bundle, request: Request) -> NDArray[np.float32]:
    return bundle.generate(request.noise, request.cond, request.uncond)


def prologues(bundle: Bundle, requests: list[Request]) -> list[tuple[int, int]]:
    """(step, branch) of every prologue while ``requests`` are generated."""
    seen: list[TracedCall] = []
    with bundle.trace(seen.append):
        for request in requests:
            generate(bundle, request)
    return [(call.step, call.branch) for call in seen if call.kernel == "toy_context"]


@pytest.fixture
def one_group(contents: Contents, tmp_path: Path) -> Iterator[Bundle]:
    """All steps of the first group."""
    first = [contents.variants[step][:] for step in (0, 1, 3, 0)]
    write_bundle(tmp_path / "b", replace(contents, variants=first))
    with Bundle.open(tmp_path / "b", threads=1) as bundle:
        yield bundle


def test_once_for_each_branch_when_all_steps_are_of_one_group(one_group: Bundle) -> None:
    assert prologues(one_group, [toy_bundle.make_request(1)]) == [(0, 0), (0, 1)]


def test_once_for_each_prompt_even_when_it_is_the_same_again(one_group: Bundle) -> None:
    request = toy_bundle.make_request(1)
    assert prologues(one_group, [request, request]) == [(0, 0), (0, 1)] * 2


def test_again_after_another_group(bundle: Bundle) -> None:
    assert prologues(bundle, [toy_bundle.make_request(1)]) == [(0, 0), (0, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_groups_may_change_in_one_branch_only(contents: Contents, tmp_path: Path) -> None:
    mixed = [[contents.variants[0][0], contents.variants[step][1]] for step in (0, 2, 2, 3)]
    made, request = replace(contents, variants=mixed), toy_bundle.make_request(8)
    write_bundle(tmp_path / "b", made)
    with Bundle.open(tmp_path / "b") as bundle:
        assert prologues(bundle, [request]) == [(0, 0), (0, 1), (1, 1), (3, 1)]
        np.testing.assert_array_equal(generate(bundle, request), toy_bundle.generate(made, request))


def test_no_prompt_is_taken_for_the_one_before(bundle: Bundle, contents: Contents) -> None:
    """Tokens, mask, both or neither changed, and branches swapped, one after the other on one handle."""
    one, two = toy_bundle.make_request(21), toy_bundle.make_request(22)
    mask = np.array([-np.inf, 0, 0], np.float32)
    requests = [
        *[one, two, one, one],
        replace(one, cond=two.cond),
        replace(one, uncond=two.cond),
        replace(one, cond=one.uncond, uncond=one.cond),
        replace(one, cond=Prompt(one.cond.tokens, mask)),
        replace(one, uncond=Prompt(one.uncond.tokens, mask)),
    ]
    wanted = [toy_bundle.generate(contents, request) for request in requests]
    assert len({latents.tobytes() for latents in wanted}) == len(requests) - 2, "they must differ to be told apart"
    for request, latents in zip(requests, wanted, strict=True):
        np.testing.assert_array_equal(generate(bundle, request), latents)


def test_one_velocity_after_another(bundle: Bundle, contents: Contents) -> None:
    """Every call has its own prompt, also between and after whole runs."""
    one, two = toy_bundle.make_request(31), toy_bundle.make_request(32)
    generate(bundle, two)
    for step, branch, request in [(0, 0, one), (0, 0, two), (0, 1, two), (1, 0, one), (3, 1, one), (2, 1, two)]:
        for prompt in (request.cond, request.uncond):
            got = bundle.velocity(step, branch, request.noise, prompt)
            np.testing.assert_array_equal(got, toy_bundle.velocity(contents, step, branch, request.noise, prompt))
    np.testing.assert_array_equal(generate(bundle, one), toy_bundle.generate(contents, one))


@pytest.mark.parametrize("stop", [(0, 0, 0), (0, 1, 0), (0, 1, 2), (2, 0, 0), (3, 1, 1)])
def test_a_run_that_was_stopped_leaves_nothing_behind(
    bundle: Bundle, contents: Contents, stop: tuple[int, int, int]
) -> None:
    one, two = toy_bundle.make_request(41), toy_bundle.make_request(42)

    def end(call: TracedCall) -> None:
        if (call.step, call.branch, call.call) == stop:
            raise LookupError("enough")

    with pytest.raises(LookupError), bundle.trace(end):
        generate(bundle, one)
    np.testing.assert_array_equal(generate(bundle, two), toy_bundle.generate(contents, two))


def test_every_step_reads_what_the_prologue_wrote_for_its_branch(one_group: Bundle) -> None:
    written: dict[int, NDArray[np.float32]] = {}
    read: list[tuple[int, NDArray[np.float32]]] = []

    def see(call: TracedCall) -> None:
        if call.kernel == "toy_context":
            written[call.branch] = call.args[3].copy()
        if call.kernel == "toy_velocity":
            read.append((call.branch, call.args[2].copy()))

    with one_group.trace(see):
        generate(one_group, toy_bundle.make_request(51))
    assert not np.array_equal(written[0], written[1])
    assert len(read) == 8
    for branch, context in read:
        np.testing.assert_array_equal(context, written[branch])
