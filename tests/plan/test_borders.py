"""A program over two devices: what is copied where, and that every byte a call reads was written and still stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_flow.backends.packed import CPU, PackedProgram, Placement
from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import KernelCall, Program, TensorSpec
from tvm_flow.plan.borders import Copy, spread
from tvm_flow.plan.static_plan import Plan, make_plan, tensor_bytes
from tvm_flow.plan.tables import ConstantTables

INPUTS = ("z", "y", "mask")


def packed_program(*calls: tuple[str, ...], devices: Sequence[str], prologue: int = 0) -> PackedProgram:
    """A call is (*args, output) and has a kernel of its own on the device of the same place."""
    graph = LiftedGraph(None, INPUTS, {}, {})
    names = dict.fromkeys((*INPUTS, *(name for call in calls for name in call)))
    tensors = {name: TensorSpec((16 * (1 + i % 3),), "float32") for i, name in enumerate(names)}
    made = tuple(KernelCall(f"k{i}", call[:-1], call[-1]) for i, call in enumerate(calls))
    program = Program(graph, {}, made, tensors, calls[-1][-1], prologue)
    return PackedProgram(program, {}, {}, {f"k{i}": Placement(device, "") for i, device in enumerate(devices)})


def plan_of(packed: PackedProgram) -> Plan:
    return make_plan(packed, ConstantTables(parts=[np.zeros((1, 0), np.float32)]), 0, 0)


def test_a_program_of_the_cpu_is_one_segment_without_copies() -> None:
    where = spread(packed_program(("z", "a"), ("a", "o"), devices=[CPU, CPU]))
    (only,) = where.segments
    assert (only.segment.device, only.segment.first, only.segment.count, only.copies) == (CPU, 0, 2, ())
    assert where.devices == (CPU,)


def test_prologue_and_step_are_segments_of_their_own() -> None:
    where = spread(packed_program(("y", "k"), ("z", "k", "o"), devices=[CPU, CPU], prologue=1))
    assert [(part.segment.first, part.segment.count) for part in where.segments] == [(0, 1), (1, 1)]


def test_what_another_device_wrote_is_copied_once() -> None:
    where = spread(
        packed_program(("z", "a"), ("a", "z", "b"), ("a", "b", "c"), ("c", "o"), devices=[CPU, "x", "x", CPU])
    )
    assert where.devices == (CPU, "x")
    assert [part.copies for part in where.segments] == [
        (),
        (Copy("a", CPU, "x"), Copy("z", CPU, "x")),
        (Copy("c", "x", CPU),),
    ]


def test_an_output_of_another_device_comes_back_in_a_segment_without_calls() -> None:
    where = spread(packed_program(("z", "o"), devices=["x"]))
    last = where.segments[-1]
    assert (last.segment.device, last.segment.count, last.copies) == (CPU, 0, (Copy("o", "x", CPU),))


def test_what_the_prologue_hands_over_is_copied_in_every_step() -> None:
    where = spread(packed_program(("y", "k"), ("z", "k", "o"), devices=["x", CPU], prologue=1))
    assert where.segments[1].copies == (Copy("k", "x", CPU),)


def test_a_copy_of_the_prologue_is_made_again_for_the_step() -> None:
    where = spread(
        packed_program(("y", "k"), ("y", "k", "l"), ("z", "y", "l", "o"), devices=["x", "x", "x"], prologue=2)
    )
    assert [copy.tensor for part in where.segments for copy in part.copies] == ["y", "z", "y", "o"]


@pytest.mark.parametrize(
    ("calls", "prologue"), [((("z", "a"), ("a", "b")), 0), ((("y", "o"), ("z", "a")), 1)], ids=["none", "prologue"]
)
def test_an_output_that_no_call_of_the_step_writes_has_no_plan(
    calls: tuple[tuple[str, ...], ...], prologue: int
) -> None:
    packed = packed_program(*calls, devices=[CPU] * len(calls), prologue=prologue)
    packed = replace(packed, program=replace(packed.program, output="z" if prologue == 0 else "o"))
    with pytest.raises(BuildError, match=r"output [zo]: expected a kernel call of the step that writes it, got none"):
        plan_of(packed)


def test_devices_have_memory_of_their_own() -> None:
    plan = plan_of(packed_program(("z", "a"), ("a", "b"), ("b", "o"), devices=[CPU, "x", CPU]))
    assert [device.name for device in plan.devices] == [CPU, "x"]
    assert plan.devices[0].arena_bytes == plan.arena_bytes
    on_x = [tensor for tensor in plan.tensors if tensor.device == 1]
    assert {tensor.name for tensor in on_x} == {"a", "b"}
    assert plan.devices[1].arena_bytes == sum(-(-tensor_bytes(t.spec) // 64) * 64 for t in on_x)


@st.composite
def programs(draw: st.DrawFn) -> PackedProgram:
    """Random straight lines over three devices, some with a prologue that reads no latent."""
    count = draw(st.integers(1, 12))
    prologue = draw(st.integers(0, count - 1))
    calls: list[tuple[str, ...]] = []
    for i in range(count):
        written = [f"t{j}" for j in range(i)]
        known = [*INPUTS[1:], *written] if i < prologue else [*INPUTS, *written]
        args = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
        calls.append((*args, f"t{i}"))
    devices = draw(st.lists(st.sampled_from([CPU, "x", "w"]), min_size=count, max_size=count))
    return packed_program(*calls, devices=devices, prologue=prologue)


@settings(max_examples=200, deadline=None)
@given(programs())
def test_every_byte_that_is_read_was_written_and_still_stands(packed: PackedProgram) -> None:
    """The prologue once, then two steps, byte by byte; an arena is forgotten between them."""
    plan, program = plan_of(packed), packed.program
    owner: dict[tuple[int, str, int], tuple[str, int]] = {}

    def extent(index: int) -> list[tuple[int, str, int]]:
        tensor = plan.tensors[index]
        return [(tensor.device, tensor.space, tensor.offset + i) for i in range(0, tensor_bytes(tensor.spec), 16)]

    def write(index: int) -> None:
        owner.update(dict.fromkeys(extent(index), (plan.tensors[index].name, index)))

    def read(index: int) -> None:
        assert all(owner.get(place) == (plan.tensors[index].name, index) for place in extent(index)), plan.tensors[
            index
        ]

    def run(calls: range) -> None:
        for place in [place for place in owner if place[1] == "arena"]:
            del owner[place]
        parts = [s for s in plan.segments if s.first_call in calls or (not s.num_calls and calls.stop == s.first_call)]
        copied = {source for segment in parts for source, _ in segment.copies}
        used = copied | {i for s in parts for call in plan.calls[s.first_call : s.end] for i in call.args}
        for index in plan.inputs:
            if index in used:
                write(index)
        for segment in parts:
            for source, target in segment.copies:
                read(source)
                write(target)
            for position in range(segment.first_call, segment.end):
                *args, output = plan.calls[position].args
                assert {plan.tensors[i].device for i in (*args, output)} == {segment.device}
                for index in args:
                    read(index)
                write(output)
                for index in args:
                    read(index)

    run(range(program.prologue))
    for _ in range(2):
        run(range(program.prologue, len(program.calls)))
        read(plan.output)
    assert [position for s in plan.segments for position in range(s.first_call, s.end)] == list(range(len(plan.calls)))
