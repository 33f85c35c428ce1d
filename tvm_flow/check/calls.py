"""Bit-exactness: every kernel call of a library against the integer reference, on the library's own inputs.

What ``bit_exact`` means in this project: every int32 accumulator equals the reference (those of a product with an
epilogue as `tvm_flow.check.sums` adds them up); every quantized element equals
it too, except where the exact value before rounding lies so near a tie that rounding errors of the kernel's float
operations, bounded by `tvm_flow.numerics.bounded`, can decide it; there it may differ by 1, and is counted. Float
outputs must lie within their bound. Every constant that a kernel reads, made by the runtime from the bundle's tables,
equals the exported graph's bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.check.sums import Sums
from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import evaluate
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.quantize import accumulate
from tvm_flow.numerics.reference import Rounded, Value
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import TracedCall

Array = npt.NDArray[Any]


@dataclass
class ExactnessReport:
    """What was compared: numbers of kernel calls and elements, and what was let pass.

    ``followed`` calls were traced and not compared. ``near_ties`` counts quantized elements that differ by 1 within
    the bound; ``worst_float`` is the largest error of a float output as a share of its bound.
    """

    calls: int = 0
    followed: int = 0
    accumulators: int = 0
    quantized: int = 0
    near_ties: int = 0
    floats: int = 0
    worst_float: float = 0.0
    constants: int = 0

    def as_dict(self) -> dict[str, float | int]:
        """For a JSON report."""
        return dict(vars(self))


def check_call(
    packed: PackedProgram,
    index: int,
    args: tuple[Array, ...],
    where: str,
    report: ExactnessReport,
    sums: Sums | None = None,
) -> None:
    """Compare call ``index`` of ``packed``, whose tensors were ``args`` (the last one written), with the reference.

    With ``sums`` the accumulators of a product with an epilogue are compared too.

    Raises BitExactError naming the kernel, the first wrong element, and both values.
    """
    call = packed.program.calls[index]
    where = f"{where}, call {index}, kernel {call.kernel}"
    product = packed.products.get(call.kernel)
    if product is not None and sums is not None and product.epilogue:
        inputs = packed.plain_inputs(call.kernel, list(args[:-1]))
        exact = accumulate(inputs[0], inputs[1].T)
        require_expected(f"{where}, sums", exact, sums.accumulate(product, args[0], args[1]), report)
    expected = packed.expected(call.kernel, list(args[:-1]))
    report.calls += 1
    require_expected(where, expected, args[-1], report)


def check_constants(
    packed: PackedProgram,
    index: int,
    args: tuple[Array, ...],
    given: Mapping[str, Array],
    where: str,
    report: ExactnessReport,
) -> None:
    """Compare the constants among ``args`` with those that the initializers ``given`` of the exported graph make.

    Raises BitExactError naming the constant, the first wrong element, and both values.
    """
    call = packed.program.calls[index]
    for name, got in zip(call.args, args, strict=False):
        if name in packed.constants:
            expected = evaluate(packed.constants[name], given)
            report.constants += got.size
            require_same_bits(f"{where}, call {index}, kernel {call.kernel}, constant {name}", expected, got)


def require_same_bits(where: str, expected: Array, got: Array) -> None:
    """Raises BitExactError naming ``where``, the first differing element, and both values."""
    _require_alike(where, expected.shape, expected.dtype, got)
    bits = [np.ascontiguousarray(a).view(f"u{a.dtype.itemsize}").reshape(a.shape) for a in (expected, got)]
    wrong = np.asarray(bits[0] != bits[1])
    if wrong.any():
        raise BitExactError(_message(where, expected, got, wrong))


def require_expected(where: str, expected: Value, got: Array, report: ExactnessReport) -> None:
    """Raises BitExactError naming ``where``, unless ``got`` is what the reference allows."""
    shape, dtype = _kind(expected)
    _require_alike(where, shape, dtype, got)
    wrong = _compare(expected, got, report)
    if wrong.any():
        unknown = wrong & _unbounded(expected, got)
        if unknown.any() and not (wrong & ~unknown).any():
            raise BitExactError(_undecidable(where, expected, got, unknown))
        raise BitExactError(_message(where, expected, got, wrong & ~unknown))


def _kind(expected: Value) -> tuple[tuple[int, ...], Any]:
    """Shape and element type that a kernel's output must have."""
    if isinstance(expected, Bounded):
        return expected.value.shape, np.dtype(np.float32)
    return expected.shape, expected.dtype


def _require_alike(where: str, shape: tuple[int, ...], dtype: Any, got: Array) -> None:
    if (got.shape, got.dtype) != (shape, dtype):
        raise BitExactError(
            f"{where}: expected {dtype} {shape}, got {got.dtype} {got.shape}. "
            "The library must not ship: report this graph and target"
        )


def _compare(expected: Value, got: Array, report: ExactnessReport) -> npt.NDArray[np.bool_]:
    if isinstance(expected, Bounded):
        return _compare_floats(expected, got, report)
    distance = np.abs(got.astype(np.int64) - np.asarray(expected).astype(np.int64))
    if isinstance(expected, Rounded):
        report.quantized += got.size
        report.near_ties += int(np.count_nonzero(distance))
        # A doubt of two codes or more, or not a number, is no tie: then nothing may differ.
        return distance > np.where((expected.doubt >= 1.0) & (expected.doubt < 2.0), 1.0, 0.0)
    report.accumulators += got.size
    return distance > 0


def _compare_floats(expected: Bounded, got: Array, report: ExactnessReport) -> npt.NDArray[np.bool_]:
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(got.astype(np.float64) - expected.value)
        # Infinities and NaN are equal or not; they have no distance.
        same = (got == expected.value) | (np.isnan(got) & np.isnan(expected.value))
        distance = np.where(same, 0.0, distance)
        share = np.where(distance > 0, distance / expected.error, 0.0)
    report.floats += got.size
    report.worst_float = max(report.worst_float, float(np.nan_to_num(share, nan=np.inf).max(initial=0.0)))
    # The bound of NaN is NaN.
    right = ((distance <= expected.error) & np.isfinite(expected.error)) | (distance == 0)
    return np.asarray(~right, np.bool_)


def _unbounded(expected: Value, got: Array) -> npt.NDArray[np.bool_]:
    """Where rounding errors have no bound that decides anything, or codes one that they are within and is no tie."""
    if isinstance(expected, Bounded):
        return np.asarray(~np.isfinite(expected.error) & ~np.isnan(expected.value), np.bool_)
    if not isinstance(expected, Rounded):
        return np.zeros(expected.shape, np.bool_)
    distance = np.abs(got.astype(np.int64) - np.asarray(expected, np.int64))
    beyond: npt.NDArray[np.bool_] = distance > np.asarray(expected.doubt)
    tie: npt.NDArray[np.bool_] = np.asarray(expected.doubt) < 2.0
    unknown: npt.NDArray[np.bool_] = ~(tie | beyond)
    return unknown


def _undecidable(where: str, expected: Value, got: Array, unknown: npt.NDArray[np.bool_]) -> str:
    at = tuple(int(i) for i in np.argwhere(unknown)[0])
    reference = expected.value[at] if isinstance(expected, Bounded) else np.asarray(expected)[at]
    return (
        f"{where}: element {at}: expected {reference:.9g}, got {got[at]}, which cannot be checked: the rounding errors "
        f"before it have no bound, so it is neither right nor wrong; {int(unknown.sum())} of {unknown.size} are so. "
        "Look for a division by what may be zero, or numbers near the end of float32, in this layer"
    )


def _message(where: str, expected: Value, got: Array, wrong: npt.NDArray[np.bool_]) -> str:
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    if isinstance(expected, Bounded):
        wanted = f"{expected.value[at]:.9g} within {expected.error[at]:.3g}"
        if not np.isfinite(got[at]) and np.isfinite(expected.value[at]):
            wanted += ", a finite number"
    else:
        wanted = str(np.asarray(expected)[at])
    return (
        f"{where}: element {at}: expected {wanted}, got {got[at]}; {int(wrong.sum())} of {wrong.size} are wrong. "
        "The library must not ship: report this graph and target"
    )


Members = Mapping[tuple[int, int], tuple[GroupLibrary, int]]
"""See `members_of`."""


def members_of(libraries: Sequence[GroupLibrary]) -> dict[tuple[int, int], tuple[GroupLibrary, int]]:
    """The library of every (step, branch), and which of its variants that is."""
    return {member: (library, variant) for library in libraries for variant, member in enumerate(library.members)}


def calls_of_run(members: Members, step: int, branch: int) -> range:
    """Calls that a denoising run makes at a step and branch, by position in the group's plan.

    Those of the prologue are among them when the branch was not in this group at the step before, as the C runtime
    has it.
    """
    library, _ = members[step, branch]
    program = library.packed.program
    held = step > 0 and members[step - 1, branch][0] is library
    return range(program.prologue if held else 0, len(program.calls))


def check_traced(
    seen: TracedCall, members: Members, report: ExactnessReport, sums: Sums | None = None, where: str = ""
) -> None:
    """`check_call` and `check_constants` for one traced kernel call; ``where`` names its run (a step, by default)."""
    library, variant = members[seen.step, seen.branch]
    where = where or f"step {seen.step}, branch {seen.branch}"
    check_constants(library.packed, seen.call, seen.args, library.given[variant], where, report)
    check_call(library.packed, seen.call, seen.args, where, report, sums)
