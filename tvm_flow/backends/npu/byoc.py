"""Bring your own code generator, as TVM has it: a kernel through a vendor's patterns to one region in its language.

    FuseOpsByPattern           operators that a pattern matches, within its limits, become composites
    MergeCompositeFunctions    neighbouring composites become one region
    RunCodegen                 relax.ext.NAME, registered from Python, turns regions into text

A kernel is offered when one region is all of it: kernels are what the plan calls, and what is left of one would need a
border inside. Everything that is left is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import chain
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.backend.pattern_registry import get_patterns_with_prefix, register_patterns

from tvm_flow.backends.npu.vendor import Complaint, Lowered, Operator, Vendor, refusal
from tvm_flow.backends.packed import Made, Refusal
from tvm_flow.graph.lifted import bindings_of, op_name

_SIGNED = "// "
_KERNEL = "main"


def region_of(vendor: Vendor, function: Any) -> Lowered | Refusal:
    """The Relax function ``function`` as one region of ``vendor``, or why it is not.

    Of several operators that are left the first that breaks a rule of the vendor's is named, else the first.
    """
    _known(vendor)
    module = _fused(vendor, function)
    outside = [value for _, value in bindings_of(module[_KERNEL]) if op_name(value)]
    calls = [value for _, value in bindings_of(module[_KERNEL]) if isinstance(value, tvm.ir.Call)]
    if outside or len(calls) != 1:
        return _reason(vendor, outside)
    (generated,) = relax.transform.RunCodegen({}, [_KERNEL])(module).attrs["external_mods"]
    return _read(str(generated.inspect_source()), [param.name for param in module[_KERNEL].params], calls[0])


def _fused(vendor: Vendor, function: Any) -> Any:
    module = tvm.IRModule({_KERNEL: function.without_attr("Primitive").with_attr("global_symbol", _KERNEL)})
    patterns = get_patterns_with_prefix(f"{vendor.name}.")
    module = relax.transform.FuseOpsByPattern(patterns, bind_constants=True, annotate_codegen=False)(module)
    return relax.transform.MergeCompositeFunctions()(module)


def _reason(vendor: Vendor, outside: list[Any]) -> Refusal:
    for call in outside:
        limits = [o.limits for o in vendor.operators.values() if _last_operator(o.pattern) == op_name(call)]
        said = (complaint for limit in chain.from_iterable(limits) if (complaint := limit(call)))
        complaint = next(said, None) or vendor.missing.get(op_name(call))
        if complaint is not None:
            return refusal(call, complaint)
    remedy = f"add it to the operators of {vendor.name}, or leave the kernel to the CPU"
    if not outside:
        return Refusal(f"more than one region of {vendor.name} in one kernel", remedy)
    return refusal(outside[0], Complaint(f"{vendor.name} has no such operator", remedy))


def _last_operator(pattern: Any) -> str:
    return str(pattern.op.expr.name)


def _known(vendor: Vendor) -> None:
    """Its patterns in Relax's registry, its code generator among TVM's functions."""
    if get_patterns_with_prefix(f"{vendor.name}."):
        return
    register_patterns([(f"{vendor.name}.{n}", o.pattern, {}, _within(o)) for n, o in vendor.operators.items()])

    def generate(functions: list[Any], _options: Any, _constants: Any) -> list[Any]:
        create = tvm_ffi.get_global_func("runtime.SourceModuleCreate")
        return [create(_signed(vendor.lower_region(function)), vendor.language) for function in functions]

    tvm_ffi.register_global_func(f"relax.ext.{vendor.name}", generate, override=True)


def _within(operator: Operator) -> Callable[[Any], bool]:
    def check(context: Any) -> bool:
        if any(limit(context.matched_expr) is not None for limit in operator.limits):
            return False
        calls = [value for value in context.matched_bindings.values() if op_name(value)]
        return operator.verify is None or operator.verify(calls) is None

    return check


def _signed(lowered: Lowered) -> str:
    """The text with what its graph reads in front: TVM carries text alone, and a blob's source says what it takes."""
    made = [asdict(argument) if isinstance(argument, Made) else argument for argument in lowered.arguments]
    head = json.dumps({"arguments": made, "weights": lowered.weights, "arithmetic": lowered.arithmetic})
    return f"{_SIGNED}{head}\n{lowered.text}"


def _read(text: str, names: list[str], call: Any) -> Lowered:
    """What `_signed` wrote, its positions those of the kernel's parameters and not of the region's."""
    head, _, body = text.removeprefix(_SIGNED).partition("\n")
    said = json.loads(head)
    place = [names.index(arg.name) for arg in call.args]
    arguments = tuple(_argument(argument, place) for argument in said["arguments"])
    return Lowered(body, arguments, tuple(place[position] for position in said["weights"]), said["arithmetic"])


def _argument(said: Any, place: list[int]) -> int | Made:
    if isinstance(said, int):
        return place[said]
    positions = tuple(place[position] for position in said["positions"])
    return Made(said["rule"], positions, tuple(said["shape"]), said["dtype"], tuple(said["options"]))
