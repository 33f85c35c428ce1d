"""A library whose plan or import is wrong is refused, although each of its kernels is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tvm_flow.check import trajectory
from tvm_flow.check.calls import ExactnessReport
from tvm_flow.check.conformance import run_checked
from tvm_flow.check.machines import ThisProcess
from tvm_flow.check.trajectory import TrajectoryCheck, figures, next_latent
from tvm_flow.compile import library as library_module
from tvm_flow.compile.library import build_library
from tvm_flow.compile.step_build import bundle_contents, golden_input
from tvm_flow.errors import BitExactError
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.plan.static_plan import DeviceRow, Plan, SegmentRow, make_plan, tensor_bytes
from tvm_flow.plan.store import WeightStore
from tvm_flow.sampler import seeded_noise
from tvm_flow.target.spec import TargetSpec

pytestmark = pytest.mark.usefixtures("kernels_once")
Checker = Callable[[Callable[[Plan], Plan]], dict[str, Any]]


@pytest.fixture(scope="module")
def check(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Checker:
    """Builds the tiny model with a plan changed by the given function, and checks the bundle."""
    groups = import_steps(exported.graphs, progress=False)

    def run(change: Callable[[Plan], Plan]) -> dict[str, Any]:
        folder, weights = tmp_path_factory.mktemp("trial"), WeightStore()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library_module, "make_plan", lambda *args: change(make_plan(*args)))
            libraries = [build_library(g, exported, host, weights, folder / f"g{i}.so") for i, g in enumerate(groups)]
        contents = bundle_contents(exported, host, libraries, weights, golden_input(exported))
        write_bundle(folder / "bundle", contents)
        checker = TrajectoryCheck(libraries, contents, ExactnessReport())
        run_checked(ThisProcess(), folder / "bundle", checker, exported.latent, 1, progress=False)
        return dict(figures(checker, checker.agreement_db(exported)))

    return run


def test_a_right_plan_passes_and_every_call_is_counted(check: Checker) -> None:
    """The prologue once for each of two branches, the step for each of three steps as well."""
    plans: list[Plan] = []
    figures = check(lambda plan: plans.append(plan) or plan)
    prologue, step = plans[0].prologue_calls, len(plans[0].calls) - plans[0].prologue_calls
    assert figures["calls"] == figures["expected_calls"] == 2 * prologue + 6 * step
    assert min(prologue, step) > 0
    assert figures["onnx_agreement_db"] >= trajectory.LEAST_AGREEMENT_DB


def elsewhere(plan: Plan, index: int) -> list[int]:
    """Arena tensors of the same shape and type at another place."""
    old = plan.tensors[index]
    return [
        i for i, t in enumerate(plan.tensors) if (t.space, t.spec) == ("arena", old.spec) and t.offset != old.offset
    ]


def rewired(plan: Plan, position: int) -> Plan:
    """The first argument of a call replaced by another arena tensor of its shape and type."""
    call = plan.calls[position]
    others = [i for i in elsewhere(plan, call.args[0]) if i not in call.args]
    calls = list(plan.calls)
    calls[position] = replace(call, args=(others[0], *call.args[1:]))
    return replace(plan, calls=tuple(calls))


def rewirable(plan: Plan) -> list[int]:
    found = []
    for position, call in enumerate(plan.calls):
        if plan.tensors[call.args[0]].space == "arena" and set(elsewhere(plan, call.args[0])) - set(call.args):
            found.append(position)
    return found


@pytest.mark.parametrize("which", [0, 3, -1])
def test_a_rewired_argument_is_refused(check: Checker, which: int) -> None:
    with pytest.raises(BitExactError, match=r"step 0, branch 0, call \d+, kernel .*tensor "):
        check(lambda plan: rewired(plan, rewirable(plan)[which]))


def test_a_tensor_overwritten_between_its_writer_and_its_reader_is_refused(check: Checker) -> None:
    def clobbered(plan: Plan) -> Plan:
        """All activations at one place."""
        return replace(plan, tensors=tuple(replace(t, offset=0) if t.space == "arena" else t for t in plan.tensors))

    with pytest.raises(BitExactError):
        check(clobbered)


def test_a_prompts_tensor_at_anothers_place_is_refused(check: Checker) -> None:
    """K where V lies: the step reads what the prologue did not write for it."""

    def overlapping(plan: Plan) -> Plan:
        return replace(plan, tensors=tuple(replace(t, offset=0) if t.space == "prompt" else t for t in plan.tensors))

    with pytest.raises(BitExactError, match=r"step 0, branch 0, call \d+, kernel .*tensor "):
        check(overlapping)


def with_spaces(plan: Plan, arena_bytes: int) -> Plan:
    """``plan`` of the CPU alone with an arena of that size and no PROMPT."""
    return replace(plan, arena_bytes=arena_bytes, prompt_bytes=0, devices=(DeviceRow("cpu", arena_bytes, 0),))


def prompt_in_arena(plan: Plan) -> Plan:
    """PROMPT at the end of the arena."""
    base = plan.arena_bytes
    tensors = [replace(t, space="arena", offset=base + t.offset) if t.space == "prompt" else t for t in plan.tensors]
    return with_spaces(replace(plan, tensors=tuple(tensors)), base + plan.prompt_bytes)


def test_a_prompts_tensor_in_the_arena_is_refused(check: Checker) -> None:
    """It stands at the step that the prologue runs before, and is the other branch's at the next one."""
    with pytest.raises(BitExactError, match=r"step 1, branch 0, call \d+, kernel .*tensor "):
        check(prompt_in_arena)


def test_a_prologue_that_runs_at_every_step_is_refused(check: Checker) -> None:
    """Inputs of both parts at places of their own: right values, but not the work that was to be saved."""

    def in_one_part(plan: Plan) -> Plan:
        moved, end = prompt_in_arena(plan), plan.arena_bytes + plan.prompt_bytes
        tensors = list(moved.tensors)
        for index in plan.inputs:
            tensors[index] = replace(tensors[index], offset=end)
            end += -(-tensor_bytes(tensors[index].spec) // 64) * 64
        whole = (SegmentRow(0, 0, len(plan.calls)),)
        return with_spaces(replace(moved, tensors=tuple(tensors), prologue_calls=0, segments=whole), end)

    with pytest.raises(BitExactError, match=r"expected call [1-9]\d* of step 1, branch 0, got call 0 of step 1"):
        check(in_one_part)


class TestUpdate:
    def contents(self, guided: int) -> Contents:
        class Fake:
            cfg_scale, guided_channels = 3.0, guided
            updates = np.array([[1.0, 0.25, 0.0, 0.0, 0.0]])

        return Fake()  # type: ignore[return-value]

    def test_guidance_on_the_first_channels_only(self) -> None:
        rng = np.random.default_rng(0)
        z, cond, uncond = rng.standard_normal((3, 4, 2, 2, 2)).astype(np.float32)
        got = next_latent(z, [cond, uncond], self.contents(3), 0)
        exact = z.astype(np.float64) + (uncond + 3.0 * (cond.astype(np.float64) - uncond)) * 0.25
        exact[3] = z[3] + cond[3].astype(np.float64) * 0.25
        assert got.dtype == np.float32
        assert np.abs(got - exact).max() < 1e-6

    def test_the_noise_of_the_golden_input_has_the_seed_0(self) -> None:
        contents = self.contents(4)
        z, v = np.ones((2, 4, 1, 1, 1), np.float32)
        contents.updates[0, 2] = 0.5
        got = next_latent(z, [v], contents, 0)
        want = 1.25 + 0.5 * seeded_noise(0, 1, z.shape).astype(np.float64)
        np.testing.assert_array_equal(got, want.astype(np.float32))
        variance = np.zeros_like(v)
        np.testing.assert_array_equal(got, next_latent(z, [np.concatenate([v, variance])], contents, 0))

    def test_one_branch_is_not_guided(self) -> None:
        z, v = np.ones((2, 4, 1, 1, 1), np.float32)
        assert np.array_equal(next_latent(z, [v], self.contents(4), 0), np.full((4, 1, 1, 1), 1.25, np.float32))


def test_a_call_out_of_order_is_refused() -> None:
    class Seen:
        step, branch, call, kernel, args = 0, 0, 1, "k", ()

    checker = object.__new__(TrajectoryCheck)
    checker.runs, checker.position, checker.call = [(0, 0)], 0, 0
    with pytest.raises(BitExactError, match=r"expected call 0 .* got call 1"):
        checker.see(Seen())  # type: ignore[arg-type]


def test_a_graph_that_was_imported_wrong_is_refused(check: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx's evaluator shares nothing with the import: scale what it returns as a lost scale would."""

    real = trajectory.evaluate_graph
    monkeypatch.setattr(trajectory, "evaluate_graph", lambda *args: 0.5 * real(*args))
    with pytest.raises(BitExactError, match=r"step_000_.*\.onnx: expected the compiled velocity within 25 dB"):
        check(lambda plan: plan)


def test_missing_calls_are_noticed() -> None:
    checker = object.__new__(TrajectoryCheck)
    checker.runs, checker.members, checker.latents = [], {}, {}
    checker.report = type("R", (), {"calls": 1, "followed": 2})()
    with pytest.raises(BitExactError, match="expected 0 kernel calls, got 3"):
        checker.finish(np.zeros(1, np.float32))
