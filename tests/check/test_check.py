"""A corrupted kernel result is caught and named; only what lies within rounding error of a tie passes, counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.check.calls import (
    ExactnessReport,
    calls_of_run,
    check_call,
    check_constants,
    check_traced,
    members_of,
)
from tvm_flow.check.sums import link_sums
from tvm_flow.compile.step_build import golden_input
from tvm_flow.errors import BitExactError
from tvm_flow.export import Exported
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.quantize import accumulate
from tvm_flow.numerics.reference import Rounded
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import Bundle, TracedCall
from tvm_flow.target.spec import TargetSpec

Array = npt.NDArray[Any]
WHERE = "step 2, branch 1"


@pytest.fixture(scope="module")
def traced(compiler: Callable[[str, str], Any], exported: Exported) -> list[TracedCall]:
    """Every kernel call of step 0, branch 0, copied."""
    seen: list[TracedCall] = []

    def keep(call: TracedCall) -> None:
        seen.append(replace(call, args=tuple(np.array(a) for a in call.args)))

    golden = golden_input(exported)
    with Bundle.open(compiler("w8a8", "host").bundle, threads=1) as bundle, bundle.trace(keep):
        bundle.velocity(0, 0, golden.noise, golden.cond)
    return seen


def expected_of(library: GroupLibrary, call: TracedCall) -> Any:
    return library.packed.expected(library.packed.program.calls[call.call].kernel, list(call.args[:-1]))


def is_tie(expected: Any) -> bool:
    return isinstance(expected, Rounded) and bool((expected.doubt > 0).any())


def first(library: GroupLibrary, traced: list[TracedCall], wanted: Callable[[Any], bool]) -> tuple[TracedCall, Any]:
    return next((call, e) for call in traced if wanted(e := expected_of(library, call)))


def corrupted(call: TracedCall, change: Callable[[Array], None]) -> tuple[Array, ...]:
    output = call.args[-1].copy()
    change(output)
    return (*call.args[:-1], output)


def refuse(library: GroupLibrary, call: TracedCall, change: Callable[[Array], None], message: str) -> None:
    report = ExactnessReport()
    with pytest.raises(BitExactError, match=message) as caught:
        check_call(library.packed, call.call, corrupted(call, change), WHERE, report)
    assert str(caught.value).startswith(f"{WHERE}, call {call.call}, kernel {call.kernel}: element (")
    check_call(library.packed, call.call, call.args, WHERE, ExactnessReport())


def at(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent // 2 for extent in shape)


def element(index: tuple[int, ...]) -> str:
    return re.escape(f"element {index}: expected")


@dataclass
class Corrupted:
    """What `Sums` gives, exact but for one element."""

    bit: int
    product: Product | None = None

    def accumulate(self, product: Product, x: Array, packed: Array) -> Array:
        self.product = product
        sums = accumulate(x, product.unpack(packed).T)
        sums[at(sums.shape)] ^= np.int32(1 << self.bit) if self.bit < 31 else np.iinfo(np.int32).min
        return sums


def is_fused_product(library: GroupLibrary, call: TracedCall) -> bool:
    product = library.packed.products.get(library.packed.program.calls[call.call].kernel)
    return product is not None and product.epilogue


def test_an_accumulator_off_by_one(library: GroupLibrary, traced: list[TracedCall]) -> None:
    """Although the epilogue's own result is right."""
    call = next(call for call in traced if is_fused_product(library, call))
    wrong = Corrupted(0)
    with pytest.raises(BitExactError, match=rf"^{WHERE}, call {call.call}, kernel \S+, sums: ") as caught:
        check_call(library.packed, call.call, call.args, WHERE, ExactnessReport(), wrong)  # type: ignore[arg-type]
    assert wrong.product is not None
    index = at((wrong.product.m, wrong.product.n))
    value = int(accumulate(call.args[0], wrong.product.unpack(call.args[1]).T)[index])
    assert f"element {index}: expected {value}, got {value ^ 1}; 1 of" in str(caught.value)


def test_every_changed_accumulator_is_caught(library: GroupLibrary, traced: list[TracedCall]) -> None:
    """All bits of one element of every integer product."""
    products = [call for call in traced if is_fused_product(library, call)]
    assert products
    for call in products:
        for bit in range(32):
            with pytest.raises(BitExactError, match="sums: element"):
                check_call(library.packed, call.call, call.args, WHERE, ExactnessReport(), Corrupted(bit))  # type: ignore[arg-type]


def test_a_code_far_from_a_tie_off_by_one(library: GroupLibrary, traced: list[TracedCall]) -> None:
    call, expected = first(library, traced, lambda e: isinstance(e, Rounded))
    codes = np.asarray(expected)
    index = tuple(int(i) for i in np.argwhere((expected.doubt == 0) & (codes < 127))[0])

    def change(output: Array) -> None:
        output[index] = codes[index] + 1

    refuse(library, call, change, rf"{element(index)} {codes[index]}, got {codes[index] + 1}; 1 of")


def rounding_call(library: GroupLibrary, traced: list[TracedCall], index: tuple[int, ...], doubt: float) -> Any:
    """A quantizing call and its reference, made to doubt one element."""
    call, expected = first(library, traced, lambda e: isinstance(e, Rounded))
    expected.doubt = np.zeros(expected.shape)
    expected.doubt[index] = doubt
    return call, expected


@pytest.mark.parametrize(("off", "doubt", "passes"), [
    (0, 1.0, True), (1, 1.0, True), (2, 1.0, False), (2, 2.0, False), (2, np.inf, False), (1, 0.0, False),
    (1, 0.5, False), (1, np.nan, False),
])  # fmt: skip
def test_near_a_tie_one_passes_and_is_counted(
    library: GroupLibrary,
    traced: list[TracedCall],
    monkeypatch: pytest.MonkeyPatch,
    off: int,
    doubt: float,
    passes: bool,
) -> None:
    call, expected = rounding_call(library, traced, (0, 0), doubt)
    monkeypatch.setattr(PackedProgram, "expected", lambda *_: expected)
    output, report = np.asarray(expected).copy(), ExactnessReport()
    output[0, 0] += off if output[0, 0] < 100 else -off
    args = (*call.args[:-1], output)
    if passes:
        check_call(library.packed, call.call, args, WHERE, report)
        assert (report.near_ties, report.quantized, report.calls) == (int(off > 0), expected.size, 1)
    else:
        with pytest.raises(BitExactError, match=element((0, 0))):
            check_call(library.packed, call.call, args, WHERE, report)


def test_a_float_beyond_its_bound_and_not_within(library: GroupLibrary, traced: list[TracedCall]) -> None:
    call, expected = first(library, traced, lambda e: isinstance(e, Bounded) and bool(e.error.min() > 0))
    index = at(expected.value.shape)
    for factor in (-3.0, 3.0, 1e6):

        def change(output: Array, factor: float = factor) -> None:
            output[index] = expected.value[index] + factor * (expected.error[index] + abs(expected.value[index]) * 2e-7)

        refuse(library, call, change, rf"{element(index)} \S+ within \S+, got \S+; 1 of")
    report, inside = ExactnessReport(), corrupted(call, lambda out: out.__setitem__(index, expected.value[index]))
    check_call(library.packed, call.call, inside, WHERE, report)
    assert report.floats == expected.value.size
    assert 0 <= report.worst_float <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_that_is_no_number(library: GroupLibrary, traced: list[TracedCall], value: float) -> None:
    call, expected = first(library, traced, lambda e: isinstance(e, Bounded))
    index = at(expected.value.shape)
    refuse(library, call, lambda out: out.__setitem__(index, value), rf"{element(index)} .* got {value}; 1 of")


def test_a_result_of_another_shape_or_type(library: GroupLibrary, traced: list[TracedCall]) -> None:
    """Neither may hide behind broadcasting or a conversion."""
    call, expected = first(library, traced, lambda e: not isinstance(e, Bounded))
    for output in (call.args[-1][:1], call.args[-1].astype(np.float32), call.args[-1][None]):
        with pytest.raises(BitExactError, match=re.escape(f"expected {expected.dtype} {expected.shape}, got ")):
            check_call(library.packed, call.call, (*call.args[:-1], output), WHERE, ExactnessReport())


def test_every_call_of_a_sound_library_passes(
    library: GroupLibrary, traced: list[TracedCall], host: TargetSpec, tmp_path: Path
) -> None:
    report, members = ExactnessReport(), members_of([library])
    program = link_sums(library.packed.products.values(), host, tmp_path)
    assert program is not None
    with program.start() as sums:
        for call in traced:
            check_traced(call, members, report, sums)
    assert report.calls == len(traced) == len(library.packed.program.calls)
    assert min(report.accumulators, report.quantized, report.floats, report.constants) > 0
    assert report.as_dict()["constants"] == report.constants
    shapes = [library.packed.products[call.kernel] for call in traced if call.kernel in library.packed.products]
    assert report.accumulators == sum(product.m * product.n for product in shapes)


def test_a_prologue_is_expected_where_a_branch_comes_to_a_group(library: GroupLibrary) -> None:
    """Steps of groups a, a, b, a in branch 0; in branch 1 all of a."""
    a, b = library, replace(library)
    program = library.packed.program
    members = {(step, 0): (group, 0) for step, group in enumerate((a, a, b, a))}
    members |= {(step, 1): (a, 0) for step in range(4)}
    found = {run: calls_of_run(members, *run) for run in members}
    whole = range(len(program.calls))
    assert {run for run, calls in found.items() if calls == whole} == {(0, 0), (0, 1), (2, 0), (3, 0)}
    assert {calls for calls in found.values() if calls != whole} == {whole[program.prologue :]}


def test_a_constant_of_another_step_is_caught(library: GroupLibrary, traced: list[TracedCall]) -> None:
    """The kernels would be right on their own inputs; it is the input that is wrong."""
    for call in traced:
        check_constants(library.packed, call.call, call.args, library.given[0], WHERE, ExactnessReport())
    with pytest.raises(BitExactError, match=rf"{WHERE}, call \d+, kernel \S+, constant \S+: element"):
        for call in traced:
            check_constants(library.packed, call.call, call.args, library.given[-1], WHERE, ExactnessReport())


def test_a_constant_with_one_other_bit_is_caught(library: GroupLibrary, traced: list[TracedCall]) -> None:
    names = library.packed.constants
    checked = 0
    for call in traced:
        for i, name in enumerate(library.packed.program.calls[call.call].args):
            if name in names:
                args = [a.copy() for a in call.args]
                raw = bytearray(args[i].tobytes())
                raw[-1] ^= 1
                args[i] = np.frombuffer(raw, args[i].dtype).reshape(args[i].shape)
                with pytest.raises(BitExactError, match=f"constant {re.escape(name)}: element"):
                    check_constants(library.packed, call.call, tuple(args), library.given[0], WHERE, ExactnessReport())
                checked += 1
    assert checked >= len(names)
