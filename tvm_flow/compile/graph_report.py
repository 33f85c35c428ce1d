"""What the import of a graph says: of every node, of every kernel, how it is called, and what was checked.

The report is made of plain values, for JSON; its text, for a person, is made from those.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tvm_flow import __version__
from tvm_flow.artifact import sha256_file
from tvm_flow.backends.cpu.chosen import ChosenKernel, chosen_kernels
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.compile.graph_build import BuiltGraph, CheckedRun
from tvm_flow.graph.constants import given_names
from tvm_flow.graph.names import unquoted
from tvm_flow.importer.nodes import PRODUCTS, NodeRow, counted

Report = dict[str, Any]


def graph_report(built: BuiltGraph, checked: CheckedRun, given: str) -> Report:
    """Of ``built``, checked on the inputs that ``given`` describes."""
    whole, interface, plan = built.whole, built.interface, built.library.plan
    kernels = {kernel.kernel: kernel for kernel in chosen_kernels(whole.packed, built.target.features)}
    return {
        "version": __version__,
        "graph": {"file": whole.path.name, "sha256": sha256_file(whole.path), "opset": whole.opset},
        "target": built.target.describe(),
        "library": built.library.path.name,
        "header": built.header.name,
        "function": f"{interface.name}_run",
        "inputs": [port.as_dict() for port in interface.inputs],
        "outputs": [port.as_dict() for port in interface.outputs],
        "memory_bytes": interface.memory_bytes,
        "weights_bytes": plan.weights_bytes,
        "nodes": _nodes(whole.rows, whole.packed, kernels),
        "counts": counted(whole.rows),
        "kernels": _kernels(whole.packed, kernels),
        "checked": {"on": checked.where, "input": given, **checked.report.as_dict()},
    }


def _nodes(rows: tuple[NodeRow, ...], packed: PackedProgram, kernels: dict[str, ChosenKernel]) -> list[Report]:
    by_weight = _products(packed, kernels)
    found = []
    for row in rows:
        said: Report = {"name": row.name, "operator": row.operator, "runs": str(row.runs), "why": row.why}
        if row.operator in PRODUCTS and (chosen := by_weight.get(row.weights)):
            kernel = kernels[chosen]
            said |= {"kernel": chosen, "kind": kernel.kind, "instructions": kernel.instructions}
            said |= {"slow": kernel.slow} if kernel.slow else {}
        found.append(said)
    return found


def _products(packed: PackedProgram, kernels: dict[str, ChosenKernel]) -> dict[frozenset[str], str]:
    """The kernel of a product by the initializers that its right operand is made from."""
    found: dict[frozenset[str], str] = {}
    for call in packed.program.calls:
        kind = kernels[call.kernel].kind
        if kind.startswith(("product", "convolution", "float product")):
            for name in call.args[:2]:
                if name in packed.constants and len(packed.program.tensors[name].shape) > 1:
                    found.setdefault(_arrays(packed, name), call.kernel)
    return found


def _arrays(packed: PackedProgram, name: str) -> frozenset[str]:
    """Initializers of more than one axis that constant ``name`` is made from: scales and zero points have one."""
    given = packed.program.graph.given
    return frozenset(each for each in given_names(packed.constants[name]) if given[each].ndim > 1)


def _kernels(packed: PackedProgram, kernels: dict[str, ChosenKernel]) -> list[Report]:
    calls = Counter(call.kernel for call in packed.program.calls)
    return [
        {
            **{"kernel": name, "device": packed.device_of(name), "kind": kernel.kind},
            **{"instructions": kernel.instructions, "calls": calls[name]},
            **({"slow": kernel.slow} if kernel.slow else {}),
        }
        for name, kernel in kernels.items()
    ]


def report_text(report: Report) -> str:
    """``report`` in lines."""
    graph, checked = report["graph"], report["checked"]
    counts = ", ".join(f"{count} {kind}" for kind, count in report["counts"].items() if count)
    lines = [f"{graph['file']}: opset {graph['opset']}, {len(report['nodes'])} nodes: {counts}"]
    lines += [_node_line(node) for node in report["nodes"]]
    for kernel in report["kernels"]:
        slow = f"; slow: {kernel['slow']}" if "slow" in kernel else ""
        times = f"{kernel['calls']} call{'s' if kernel['calls'] > 1 else ''}"
        lines.append(f"kernel {kernel['kernel']}: {kernel['kind']}, {kernel['instructions']}, {times}{slow}")
    for side in ("inputs", "outputs"):
        lines += [f"{side[:-1]} {p['name']}: {p['dtype']} {p['shape']}, {p['bytes']} bytes" for p in report[side]]
    lines.append(f"memory: {report['memory_bytes']} bytes, and {report['weights_bytes']} of weights in the library")
    lines.append(
        f"bit-exact on {checked['input']} ({checked['on']}): {checked['calls']} kernel calls, "
        f"{checked['accumulators']} accumulators and {checked['quantized']} quantized elements compared; "
        f"{checked['near_ties']} near ties differ by 1"
    )
    return "\n".join(lines)


def _node_line(node: Report) -> str:
    kernel = f" [{node['kind']}, {node['instructions']}]" if "kernel" in node else ""
    slow = f"; slow: {node['slow']}" if "slow" in node else ""
    return f"node {unquoted(node['name'])} ({node['operator']}): {node['runs']}: {node['why']}{kernel}{slow}"
