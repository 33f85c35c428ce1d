"""What the device has, as Relax patterns, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tvm.relax.dpl import is_const, is_op, wildcard

from support.npu_template.rounding import NAME, SHIFT, Array, shifted
from tvm_flow.backends.npu.vendor import Complaint, Lowered, Operator, Vendor
from tvm_flow.graph.constants import register_rule
from tvm_flow.graph.lifted import bindings_of, op_name, shape_of

MOST_COLUMNS = 64
"""The limit of the device's unit."""


@dataclass(frozen=True)
class Rows:
    """Weights [K, N] as [N, K]."""

    rule: ClassVar[str] = "npu_template_rows"
    options: ClassVar[tuple[int, ...]] = ()

    def shape(self, plain: tuple[int, ...]) -> tuple[int, ...]:
        return plain[::-1]

    def pack(self, plain: Array) -> Array:
        return np.ascontiguousarray(plain.T)

    def unpack(self, packed: Array, _plain: tuple[int, ...]) -> Array:
        return np.ascontiguousarray(packed.T)


register_rule(Rows.rule, Rows().pack)


def pattern() -> Any:
    """int8(clip(round(float(x @ w) / 256)))."""
    sums = is_op("relax.astype")(is_op("relax.matmul")(wildcard(), wildcard()))
    scaled = is_op("relax.round")(is_op("relax.multiply")(sums, is_const()))
    return is_op("relax.astype")(is_op("relax.clip")(scaled, wildcard(), wildcard()))


def narrow(call: Any) -> Complaint | None:
    """A limit: says which rule is broken and what helps, or nothing."""
    if shape_of(call)[-1] <= MOST_COLUMNS:
        return None
    return Complaint(f"at most {MOST_COLUMNS} columns", "split the layer")


def shifts(calls: Any) -> Complaint | None:
    """A limit on all calls of a pattern: here, that the scale is what the device shifts by."""
    (scale,) = (call.args[1] for call in calls if op_name(call) == "relax.multiply")
    if float(scale.value.numpy()) == 2.0**-SHIFT:
        return None
    return Complaint(f"a scale of 2^-{SHIFT} only", "fold the rest into the weights")


def lower_region(function: Any) -> Lowered:
    """A region in the device's language, one line for each composite; of the Relax function of the whole region."""
    names = {param: f"a{i}" for i, param in enumerate(function.params)}
    lines = []
    for var, value in bindings_of(function):
        if op_name(value) == "" and hasattr(value, "args"):
            names[var] = "y"
            lines.append(f"PRODUCT {' '.join(names[arg] for arg in value.args)} -> y SHIFT {SHIFT}")
    return Lowered("\n".join(lines), tuple(range(len(function.params))), weights=(1,), arithmetic=NAME)


def _not_one_by_one(*_words: Any) -> Any:
    raise AssertionError("this vendor lowers whole regions")


TEMPLATE = Vendor(
    name="npu_template",
    operators={"product": Operator(pattern(), (narrow,), _not_one_by_one, shifts)},
    lower_region=lower_region,
    arithmetic={NAME: shifted},
    missing={"relax.exp": Complaint("no tables in this device", "leave the kernel to the CPU")},
    weights=Rows(),
    language="text",
)
