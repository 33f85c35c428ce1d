"""What a vendor of an NPU says of it: operators as patterns, what limits them, and how they become the vendor's graph.

    kernel --patterns--> composites --merge--> regions --code generator--> the vendor's text      `byoc` of this folder

A vendor is one folder beside this file and an instance of `Vendor`. A limit is a function of the call that a pattern
matched; the first that complains makes the operator stay outside, and everybody hears the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tvm import relax

from tvm_flow.backends.packed import Arithmetic, Layout, Made, Refusal
from tvm_flow.graph.lifted import dtype_of, op_name, shape_of


@dataclass(frozen=True)
class Complaint:
    """Which rule an operator breaks, and what would help."""

    rule: str
    remedy: str


Limit = Callable[[Any], Complaint | None]
"""Of the last call that a pattern matches; None where it keeps the rule."""


def tensors_of(call: Any) -> list[Any]:
    """The arguments of ``call`` that are tensors; bounds of a clip and axes are not, parts of a concat are."""
    parts = [part for arg in call.args for part in (arg.fields if isinstance(arg, relax.Tuple) else [arg])]
    return [part for part in parts if isinstance(part.ty, relax.TensorType)]


def refusal(call: Any, complaint: Complaint) -> Refusal:
    """The one form of every refusal: operator, types, shapes, rule; and the remedy."""
    words = ", ".join(f"{dtype_of(arg)} {list(shape_of(arg))}" for arg in tensors_of(call))
    return Refusal(f"{op_name(call).removeprefix('relax.')} of {words}: {complaint.rule}", complaint.remedy)


@dataclass(frozen=True)
class Lowered:
    """A region in the vendor's language.

    ``arguments`` are what its graph reads, in order: positions of the kernel's parameters, then constants that are made
    of several. ``weights`` are the positions of those that lie as `Vendor.weights` has it. ``arithmetic`` names the
    vendor's rounding rule in `Vendor.arithmetic`, "" where the region computes what its Relax function says.
    """

    text: str
    arguments: tuple[int | Made, ...]
    weights: tuple[int, ...] = ()
    arithmetic: str = ""


class Lower(Protocol):
    """Writes a composite into a vendor's graph in the making."""

    def __call__(self, region: Any, composite: Any, args: list[Any]) -> Any:
        """The value of ``composite``, a Relax function, of values or literals ``args``."""


@dataclass(frozen=True)
class Operator:
    """A composite: its pattern, the limits of `Vendor` on it, and its lowering."""

    pattern: Any
    limits: tuple[Limit, ...]
    lower: Lower
    verify: Callable[[Sequence[Any]], Complaint | None] | None = None
    """Of all calls of a pattern that matches several, where `limits` see the last one."""


@dataclass(frozen=True)
class Vendor:
    """``name`` is the code generator's and the prefix of composites. Later operators are matched first.

    ``lower_region`` turns a merged region, whose calls are of composites, into text; ``arithmetic`` has the rounding
    rules that regions name.
    """

    name: str
    operators: Mapping[str, Operator]
    lower_region: Callable[[Any], Lowered]
    arithmetic: Mapping[str, Arithmetic]
    missing: Mapping[str, Complaint]
    """Why, of operators that there are none of, by Relax's names."""
    weights: Layout
    language: str
