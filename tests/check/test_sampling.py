"""A sample of the kernel calls of the first step: what is compared, what is followed, what the bundle says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_flow.check.calls import ExactnessReport, members_of
from tvm_flow.check.sampling import (
    SAMPLED_STEPS,
    All,
    Automatic,
    PerKernel,
    choose_calls,
    parse_check,
    written_elements,
)
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BitExactError, BundleError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.pack import read_golden, read_manifest
from tvm_flow.pack.format import STEPS
from tvm_flow.pack.index import read_index
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import Bundle, TracedCall
from tvm_flow.target.spec import TargetSpec

pytestmark = pytest.mark.usefixtures("kernels_once")


@pytest.fixture(scope="module")
def sampled(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    output = tmp_path_factory.mktemp("sampled") / "bundle"
    return compile_bundle(exported, host, output, CompileOptions(threads=1, progress=False, check=PerKernel(1)))


def test_words_and_numbers() -> None:
    assert [parse_check(text) for text in ("auto", "all", "1", "20")] == [
        Automatic(),
        All(),
        PerKernel(1),
        PerKernel(20),
    ]
    assert [str(parse_check(text)) for text in ("auto", "all", "20")] == ["auto", "all", "20"], "what a stamp holds"


@pytest.mark.parametrize("text", ["", "0", "-1", "some", "1.5", "²"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="check: expected auto, all, none, or a number of calls of every kernel, got"):
        parse_check(text)


def test_a_small_model_is_compared_whole(library: GroupLibrary) -> None:
    members = members_of([library])
    assert choose_calls(members, Automatic()).chosen is None
    assert choose_calls(members, All()).chosen is None


def test_a_trajectory_too_long_is_sampled(library: GroupLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of([library])
    written = written_elements([library for library, _ in members.values()])
    monkeypatch.setattr("tvm_flow.check.sampling.MOST_ELEMENTS", written - 1)
    assert choose_calls(members, Automatic()).chosen
    monkeypatch.setattr("tvm_flow.check.sampling.MOST_ELEMENTS", written)
    assert choose_calls(members, Automatic()).chosen is None


@pytest.mark.parametrize("calls", [1, 2, 10**6])
def test_every_kernel_is_among_the_sample(library: GroupLibrary, calls: int) -> None:
    members, program = members_of([library]), library.packed.program
    chosen = choose_calls(members, PerKernel(calls)).chosen
    assert chosen is not None and chosen == choose_calls(members, PerKernel(calls)).chosen, "drawn by a seed"
    counts: dict[str, int] = {}
    for step, _branch, index in chosen:
        assert step < SAMPLED_STEPS
        counts[program.calls[index].kernel] = counts.get(program.calls[index].kernel, 0) + 1
    possible = {name: 2 * sum(call.kernel == name for call in program.calls) for name in program.kernels}
    assert counts == {name: min(calls, count) for name, count in possible.items()}


def test_the_report_counts_what_was_only_followed(sampled: Compiled, library: GroupLibrary) -> None:
    report, program = sampled.exactness, library.packed.program
    assert report["calls"] == len(program.kernels)
    assert report["calls"] + report["followed"] == report["expected_calls"] == 2 * len(program.calls)
    assert report["onnx_agreement_db"] is None
    constants = sum(
        np.prod(program.tensors[n].shape) for c in program.calls for n in c.args if n in library.packed.constants
    )
    assert report["constants"] == 2 * constants, "of every call, chosen or not"
    assert read_manifest(sampled.bundle).provenance["compiled"]["exactness"] == report


def test_the_golden_output_is_that_of_the_steps_that_ran(sampled: Compiled, compiler: Callable[..., Compiled]) -> None:
    golden = read_golden(sampled.bundle)
    assert golden.steps == read_index(sampled.bundle / STEPS).golden_steps == SAMPLED_STEPS
    with Bundle.open(sampled.bundle, threads=1) as bundle:
        bundle.verify()
        whole = bundle.generate(golden.noise, golden.cond, golden.uncond)
    assert not np.array_equal(whole, golden.latents), "two more steps are to come"
    checked = read_golden(compiler("w8a8", "host").bundle)
    assert checked.steps == 0
    np.testing.assert_array_equal(whole, checked.latents)


def test_a_wrong_constant_is_found_in_a_call_that_is_only_followed(library: GroupLibrary) -> None:
    check = replace(choose_calls(members_of([library]), PerKernel(1)), chosen=frozenset())
    program = library.packed.program
    index, call = next((i, c) for i, c in enumerate(program.calls) if c.args[-1] in library.packed.constants)
    args = tuple(np.zeros(program.tensors[n].shape, program.tensors[n].dtype) for n in (*call.args, call.output))
    with pytest.raises(BitExactError, match=rf"call {index}, .*constant"):
        check(TracedCall(0, 0, index, call.kernel, args), members_of([library]), ExactnessReport())


def test_latents_that_the_runtime_does_not_repeat_are_an_error(
    exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check's update and the runtime's must agree, although a cancelled run gives no latents to compare."""
    from tvm_flow.check import trajectory

    update = trajectory.next_latent
    monkeypatch.setattr(trajectory, "next_latent", lambda *a: np.nextafter(update(*a), np.float32(9)))
    with pytest.raises(BundleError, match="latents differ"):
        compile_bundle(exported, host, tmp_path / "b", CompileOptions(threads=1, progress=False, check=PerKernel(1)))
    assert not (tmp_path / "b").exists()
