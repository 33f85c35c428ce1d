"""Clusters of steps: what joining costs by the scales alone, and whose scales a step then has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.relax_kernels import like, linear, program_of

from tvm_flow.compile.step_clusters import Sharing, StepScales
from tvm_flow.compile.step_members import Member
from tvm_flow.graph.constants import Given

NAN = float("nan")


def scales(*rows: tuple[float, ...]) -> StepScales:
    values = np.array(rows)
    return StepScales(tuple((f"layer{i}.scale", 0) for i in range(values.shape[1])), values)


def test_a_cluster_costs_each_step_the_square_of_what_its_scale_grows_by() -> None:
    cost = scales((1.0, 2.0), (2.0, 1.0), (4.0, 1.0)).cost
    assert np.diag(cost) == pytest.approx([2, 2, 2]), "one for each layer at each step"
    assert cost[0, 1] == pytest.approx((4 + 1) + (1 + 4))
    assert cost[0, 2] == pytest.approx((16 + 4 + 1) + (1 + 4 + 4))


def test_steps_that_keep_a_layer_in_float_cost_it_nothing() -> None:
    found = scales((1.0, NAN), (1.0, 1.0), (1.0, 3.0))
    assert found.cost[0, 2] == pytest.approx(3 + (9 + 1))
    assert found.noise_db(np.zeros(3, np.int64)) == pytest.approx(10 * np.log10(13 / 5))


def test_equal_steps_are_joined_and_add_no_noise() -> None:
    found = scales((1.0,), (1.0,), (8.0,), (8.0,))
    assert found.clusters(2).tolist() == [0, 0, 1, 1]
    assert found.noise_db(found.clusters(2)) == pytest.approx(0.0)
    assert found.noise_db(found.clusters(1)) == pytest.approx(10 * np.log10((64 + 64 + 1 + 1) / 4))


WEIGHTS = np.ones((3, 4), np.int8)


def _program() -> Any:
    arrays = [np.zeros((2, 3), np.int8), WEIGHTS, np.array(1, np.float32), np.zeros(4, np.float32)]
    program = program_of(like(linear, *arrays), dict(enumerate(arrays[1:], 1)))
    names = {"p1": "w", "p2": "layer.scale", "p3": "layer.bias"}
    program.graph.constants.update({name: Given(given) for name, given in names.items()})
    return program


PROGRAM = _program()


def member(position: int, scale: float, bias: float) -> Member:
    values = {"layer.scale": np.array(scale, np.float32), "layer.bias": np.full(4, bias, np.float32)}
    return Member(position, 0, PROGRAM, {"w": WEIGHTS, **values})


def test_joined_steps_need_one_stream_unless_something_else_of_theirs_differs() -> None:
    inside = {id(PROGRAM): frozenset({"k"})}
    for biases, count in (((0.0, 0.0, 0.0), 1), ((0.0, 0.0, 5.0), 2)):
        sharing = Sharing([member(i, 1.0 + i, bias) for i, bias in enumerate(biases)], inside)
        assert sharing.scales.names == (("layer.scale", 0),)
        assert sum(sharing.blobs(np.arange(3)).values()) == 3
        assert sum(sharing.blobs(np.zeros(3, np.int64)).values()) == count
        joined = sharing.scales.joined(sharing.members[0], np.array([0, 0, 1]))
        assert joined["layer.scale"] == np.float32(2) and joined["w"] is sharing.members[0].given["w"]
