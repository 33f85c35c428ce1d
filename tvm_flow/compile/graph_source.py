"""The C of a graph that is a library by itself: its one function, and the header that says how to call it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tvm_flow.errors import ConfigError
from tvm_flow.graph.names import unquoted
from tvm_flow.graph.program import Program, TensorSpec
from tvm_flow.plan.static_plan import Plan, tensor_bytes

ARGUMENT_BYTES = 64
"""What graph_run.c needs of one argument of a call."""
WEIGHTS = "weights.bin"
LONGEST_NAME = 180
"""What is left of a file's name beside what is put before and behind it."""
_SYSTEM = frozenset({"c", "m", "dl", "rt", "util", "pthread", "resolv", "gcc_s", "tvm_flow", "graph"})
"""Whose libNAME.so a program may load beside ours; and `graph_run` is the function that every library has inside."""

# The weights become a part of the library: one file is all that there is to deploy.
_TABLES = """
#include "graph_run.h"

__asm__(
  ".section .rodata\\n"
  ".balign 64\\n"
  ".globl graph_weights\\n"
  ".hidden graph_weights\\n"
  "graph_weights:\\n"
  ".incbin \\"{weights}\\"\\n"
  ".byte 0\\n"
  ".text\\n");
extern const unsigned char graph_weights[] __attribute__((visibility("hidden")));

static const uint32_t graph_outputs[] = {{{outputs}}};
"""
_GRAPH = "{{&tvm_flow_library, graph_weights, graph_outputs, {num_outputs}, {memory}u}}"
_FUNCTION = """
int {name}_run(const void *const *inputs, void *const *outputs, void *memory);

int {name}_run(const void *const *inputs, void *const *outputs, void *memory) {{
  static const graph g = {graph};
  return graph_run(&g, inputs, outputs, memory, 0, 0);
}}
"""

_HEADER = """/* {comment}
 *
 * Compiled by tvm-flow {version} for {target}. Link with lib{name}.so, which needs libc and libm alone.
 *
{tensors}
 *
 * Tensors are dense and row-major; the numbers are bytes. They may lie at any address. What is quantized becomes a code
 * of 8 bits, a NaN too, and the outputs behind it are finite: look at inputs that may hold one before the call.
 */
#ifndef {guard}_GRAPH_H
#define {guard}_GRAPH_H

#ifdef __cplusplus
extern "C" {{
#endif

#define {guard}_NUM_INPUTS {num_inputs}
#define {guard}_NUM_OUTPUTS {num_outputs}
{sizes}
#define {guard}_MEMORY_BYTES {memory}

enum {{ {guard}_OK = 0, {guard}_NO_MEMORY = 1, {guard}_WRONG_CPU = 2, {guard}_KERNEL_FAILED = 3 }};

/* Computes the outputs, each written whole to memory of the caller's. `memory`: {guard}_MEMORY_BYTES whose address 64
 * divides, for this call alone; NULL: taken with aligned_alloc and given back. Several threads may call it at the same
 * time. Runs on the calling thread. Anything but {guard}_OK leaves the outputs undefined; {guard}_WRONG_CPU: this
 * processor lacks one of: {features}. */
int {name}_run(const void *const *inputs, void *const *outputs, void *memory);

#ifdef __cplusplus
}}
#endif
#endif
"""


@dataclass(frozen=True)
class Port:
    """An input or an output, under the graph's own name."""

    name: str
    spec: TensorSpec

    @property
    def bytes(self) -> int:
        """Its size."""
        return tensor_bytes(self.spec)

    def as_dict(self) -> dict[str, object]:
        """For a JSON report."""
        return {"name": self.name, "dtype": self.spec.dtype, "shape": list(self.spec.shape), "bytes": self.bytes}


@dataclass(frozen=True)
class Interface:
    """How a compiled graph is called: ``name`` begins its symbols, its header and its library."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    memory_bytes: int


def identifier(text: str) -> str:
    """``text`` as the beginning of C's names; raises ConfigError when nothing of it can be."""
    plain = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_")
    if len(plain) > LONGEST_NAME:
        raise ConfigError(
            f"{text[:40]}...: expected a name of at most {LONGEST_NAME} letters, got {len(plain)}; give one by --name"
        )
    if not plain:
        raise ConfigError(f"{text!r}: expected a name with a letter or digit of ASCII; choose one with --name")
    return plain if plain[0].isalpha() and plain not in _SYSTEM else f"graph_{plain}"


def interface_of(name: str, program: Program, outputs: Sequence[str], plan: Plan) -> Interface:
    """Of ``program``, whose outputs the graph calls ``outputs``."""
    inputs = tuple(Port(unquoted(each), program.tensors[each]) for each in program.graph.inputs)
    named = tuple(Port(port, program.tensors[each]) for port, each in zip(outputs, program.outputs, strict=True))
    arguments = max((len(call.args) for call in plan.calls), default=0)
    return Interface(name, inputs, named, plan.arena_bytes + ARGUMENT_BYTES * arguments)


def tables_source(program: Program, plan: Plan) -> str:
    """C of the weights and the outputs' places, to follow the plan's."""
    index = {tensor.name: row for row, tensor in enumerate(plan.tensors)}
    return _TABLES.format(weights=WEIGHTS, outputs=", ".join(str(index[name]) for name in program.outputs))


def function_source(interface: Interface) -> str:
    """C of the exported function, to follow the tables."""
    return _FUNCTION.format(name=interface.name, graph=_graph(interface))


def traced_source(interface: Interface) -> str:
    """C of what runtime/emulate/graph_trace.c runs, to follow the tables."""
    return f"\nextern const graph traced_graph;\nconst graph traced_graph = {_graph(interface)};\n"


def _graph(interface: Interface) -> str:
    return _GRAPH.format(num_outputs=len(interface.outputs), memory=interface.memory_bytes)


def header_source(interface: Interface, graph: str, target: str, features: str, version: str) -> str:
    """The header for who calls the library: ``graph`` is the file that it was made from."""
    guard = interface.name.upper()
    sides = (("INPUT", "inputs", interface.inputs), ("OUTPUT", "outputs", interface.outputs))
    ports = [(side, place, row, port) for side, place, ports in sides for row, port in enumerate(ports)]
    lines = (f" *   {place}[{row}]  {_shown(port)}" for _, place, row, port in ports)
    sizes = (f"#define {guard}_{side}_{row}_BYTES {port.bytes}" for side, _, row, port in ports)
    return _HEADER.format(
        comment=f"{_plain(graph)} as one function.",
        **{"version": version, "target": _plain(target), "features": _plain(features) or "none"},
        **{"name": interface.name, "guard": guard, "tensors": "\n".join(lines), "sizes": "\n".join(sizes)},
        **{"num_inputs": len(interface.inputs), "num_outputs": len(interface.outputs)},
        memory=interface.memory_bytes,
    )


def _shown(port: Port) -> str:
    count = prod(port.spec.shape)
    words = f"{port.spec.dtype} {list(port.spec.shape)}, {port.bytes}"
    return f"{_plain(port.name)}: {words}" if count else words


def _plain(text: str) -> str:
    """``text`` without what could end a comment or splice a line."""
    return re.sub(r"\*/|/\*|[^\x20-\x7e]|\\", "_", text)
