"""The arena holds every tensor for as long as it is needed, aligned, and in no more bytes than the tensors have."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_flow.plan.arena import ALIGNMENT, Lifetime, liveness_bound, place_apart, plan_arena


def aligned(size: int) -> int:
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


def check(lifetimes: dict[str, Lifetime]) -> int:
    """The size of the plan, after checking it byte for byte and call by call."""
    offsets, size = plan_arena(lifetimes)
    assert set(offsets) == set(lifetimes)
    assert all(offset >= 0 and offset % ALIGNMENT == 0 for offset in offsets.values())
    for (a, one), (b, two) in combinations(lifetimes.items(), 2):
        if set(range(one.first, one.last + 1)) & set(range(two.first, two.last + 1)):
            bytes_a = range(offsets[a], offsets[a] + max(one.size, 1))
            bytes_b = range(offsets[b], offsets[b] + max(two.size, 1))
            assert bytes_a.stop <= bytes_b.start or bytes_b.stop <= bytes_a.start, (a, b)
    assert all(offsets[name] + lifetime.size <= size for name, lifetime in lifetimes.items())
    assert liveness_bound(lifetimes) <= size <= sum(aligned(lifetime.size) for lifetime in lifetimes.values())
    return size


@st.composite
def lifetimes(draw: st.DrawFn, most: int = 14) -> dict[str, Lifetime]:
    rows = draw(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 9), st.integers(0, 6)), max_size=most))
    return {f"t{i}": Lifetime(size, first, first + length) for i, (size, first, length) in enumerate(rows)}


@given(lifetimes())
@settings(max_examples=300, deadline=None)
def test_tensors_that_are_needed_together_never_share_a_byte(rows: dict[str, Lifetime]) -> None:
    check(rows)


@given(lifetimes())
@settings(max_examples=200, deadline=None)
def test_the_bound_is_the_busiest_call(rows: dict[str, Lifetime]) -> None:
    busiest = 0
    for call in range(20):
        needed = 0
        for row in rows.values():
            if row.first <= call <= row.last:
                needed += aligned(row.size)
        busiest = max(busiest, needed)
    assert liveness_bound(rows) == busiest


@given(lifetimes(), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_plan_does_not_depend_on_the_order_of_the_tensors(rows: dict[str, Lifetime], random) -> None:  # type: ignore[no-untyped-def]
    names = list(rows)
    random.shuffle(names)
    assert plan_arena({name: rows[name] for name in names}) == plan_arena(rows)


def test_no_tensor_needs_no_bytes() -> None:
    assert plan_arena({}) == ({}, 0)
    assert liveness_bound({}) == 0


def test_an_empty_tensor_has_a_place_of_its_own() -> None:
    assert check({"a": Lifetime(0, 0, 1), "b": Lifetime(0, 0, 1)}) == 2 * ALIGNMENT


def test_a_chain_needs_two_places() -> None:
    """Each call reads one tensor and writes the next: two alternate, however long the chain."""
    assert check({f"t{i}": Lifetime(256, i, i + 1) for i in range(50)}) == 512


def test_nested_lifetimes_stack_to_the_bound() -> None:
    rows = {f"t{i}": Lifetime(64 * (i + 1), i, 40 - i) for i in range(20)}
    assert check(rows) == liveness_bound(rows)


def test_a_residual_keeps_its_place_under_a_staircase() -> None:
    rows = {f"t{i}": Lifetime(64 * (1 + i * 7 % 11), i, i + 1) for i in range(60)} | {"residual": Lifetime(640, 0, 60)}
    assert check(rows) <= 640 + 2 * 11 * 64


@pytest.mark.parametrize("width", [2, 3, 5])
def test_combs_leave_holes_that_are_filled_again(width: int) -> None:
    """Every other tensor dies at once; the holes fit their successors exactly."""
    early = {f"a{i}": Lifetime(128, 0, 0 if i % 2 else 9) for i in range(2 * width)}
    late = {f"b{i}": Lifetime(128, 1, 9) for i in range(width)}
    assert check(early | late) == liveness_bound(early | late)


def test_touching_at_one_call_is_overlap() -> None:
    """A kernel's input and its output are needed at the same call."""
    assert check({"read": Lifetime(64, 0, 3), "written": Lifetime(64, 3, 5)}) == 128
    assert check({"read": Lifetime(64, 0, 3), "later": Lifetime(64, 4, 5)}) == 64


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 700), max_size=9))
def test_tensors_that_are_all_needed_at_once_lie_apart(sizes: dict[str, int]) -> None:
    offsets, end = place_apart(sizes)
    assert check({name: Lifetime(size, 0, 0) for name, size in sizes.items()}) == end
    ends = {name: offset + aligned(sizes[name]) for name, offset in offsets.items()}
    assert all(offset % ALIGNMENT == 0 for offset in offsets.values())
    assert sorted(offsets.values()) == sorted([0, *ends.values()])[: len(sizes)]
    assert max(ends.values(), default=0) == end
