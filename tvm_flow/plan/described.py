"""Every call of a program for a person: the layer that it is a part of, what it does, and how much work that is.

A call is named by the constants that it reads, which have the names of the model's parameters: a product by its matrix
(blocks.3.mlp.fc1), another kernel by the scales or vectors that it applies. One that reads none of a layer, such as an
transpose, or is an attention, which may have the scale of what follows it, has what the names of those that it reads
from and is read by begin with (blocks.3.attn).

`described` gives the rows that `tvm_flow.profile` reads back from the bundle's calls.json.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.graph.constants import given_names
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.graph.program import KernelCall
from tvm_flow.lower.partition import PLACE_CHANGING
from tvm_flow.plan.coverage import kernel_macs
from tvm_flow.plan.static_plan import tensor_bytes

_PART = re.compile(r"[._](weight_q|weight_scale|weight|bias|scale|shift|gate|zero_point|input_gain)$")
ATTENTION = "attention"
_MOVES = PLACE_CHANGING | {"relax.strided_slice", "relax.concat", "relax.multiply"}


@dataclass(frozen=True)
class DescribedCall:
    """``name`` of the layer, ``kind`` of work, multiply-adds, bytes read and written, ``instructions`` of a product.

    ``least`` is the call's part of the fewest bytes that the program could move with these kernels.
    """

    name: str
    kind: str
    macs: int
    bytes: int
    instructions: str = ""
    least: int = 0

    def as_dict(self) -> dict[str, str | int]:
        """For JSON."""
        return asdict(self)


def described(packed: PackedProgram) -> tuple[DescribedCall, ...]:
    """The calls of ``packed``, in order."""
    program = packed.program
    names = _names(packed)
    sizes = {name: tensor_bytes(spec) for name, spec in program.tensors.items()}
    kinds = {name: _kind(function) for name, function in program.kernels.items()}
    macs = {name: kernel_macs(function) for name, function in program.kernels.items()}
    least = _least(program.calls, sizes, kinds)
    return tuple(
        DescribedCall(
            name or call.kernel,
            kinds[call.kernel],
            macs[call.kernel],
            _moved(kinds[call.kernel], [sizes[tensor] for tensor in (*call.args, call.output)]),
            packed.products[call.kernel].isa.name if call.kernel in packed.products else "",
            fewest,
        )
        for call, name, fewest in zip(program.calls, names, least, strict=True)
    )


def _least(calls: Sequence[KernelCall], sizes: Mapping[str, int], kinds: Mapping[str, str]) -> list[int]:
    """Bytes of each call where every constant is read once, every activation is written once and read once, and none
    is moved without being computed on: what reads a tensor again, and what only moves one, has none.
    """
    read: set[str] = set()
    found = []
    for call in calls:
        if kinds[call.kernel] == "move":
            found.append(0)
            continue
        found.append(sizes[call.output] + sum(sizes[name] for name in {*call.args} - read))
        read |= {*call.args}
    return found


def _moved(kind: str, sizes: Sequence[int]) -> int:
    """Bytes read and written; what only moves elements may take a part of what it is given."""
    return 2 * sizes[-1] if kind == "move" else sum(sizes)


def _kind(function: Any) -> str:
    calls = [value for _, value in bindings_of(function) if op_name(value)]
    ops = [op_name(value) for value in calls]
    products = [value for value in calls if op_name(value) == "relax.matmul"]
    if "relax.nn.conv2d" in ops:
        return "convolution"
    if len(products) > 1 and len(shape_of(products[0])) > 2:
        return ATTENTION
    if products:
        return "integer product" if dtype_of(products[0].args[0]) == "int8" else "float product"
    if "relax.sqrt" in ops:
        return "norm"
    if "relax.round" in ops:
        return "quantize"
    return "move" if set(ops) <= _MOVES else "elementwise"


def _names(packed: PackedProgram) -> list[str]:
    calls = packed.program.calls
    readings = Counter(name for call in calls for name in call.args)
    kinds = {name: _kind(function) for name, function in packed.program.kernels.items()}
    own = [
        "" if kinds[call.kernel] == ATTENTION else _own_name(packed, [n for n in call.args if readings[n] == 1])
        for call in calls
    ]
    writer = {call.output: position for position, call in enumerate(calls)}
    readers: list[list[int]] = [[] for _ in calls]
    for position, call in enumerate(calls):
        for name in call.args:
            if name in writer:
                readers[writer[name]].append(position)
    before, after = list(own), list(own)
    for position, call in enumerate(calls):
        if not own[position]:
            before[position] = _common(before[writer[name]] for name in call.args if name in writer)
    for position in reversed(range(len(calls))):
        if not own[position]:
            after[position] = _common(after[reader] for reader in readers[position])
    return [name or _common([before[i], after[i]]) or after[i] or before[i] for i, name in enumerate(own)]


def _own_name(packed: PackedProgram, read: Sequence[str]) -> str:
    """By the largest constant of a layer among those that no other call reads; of equally large ones the last."""
    best, size = "", -1
    for name in read:
        if name not in packed.constants:
            continue
        for given in sorted(given_names(packed.constants[name])):
            layer = _PART.sub("", given)
            extent = prod(packed.program.tensors[name].shape)
            if "." in layer and extent >= size:
                best, size = layer, extent
    return best


def _common(names: Iterable[str]) -> str:
    """The dotted beginning that all non-empty ``names`` share."""
    parts = [name.split(".") for name in names if name]
    return ".".join(_shared(parts)) if parts else ""


def _shared(parts: Sequence[Sequence[str]]) -> Iterator[str]:
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            return
        yield column[0]
