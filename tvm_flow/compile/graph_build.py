"""An ONNX graph from elsewhere to a library by itself: one function of one file, its weights inside.

1. import it, scales and shapes fixed, and give its kernels to the CPU;
2. compile them, and the plan that strings them together, into ``libNAME.so`` with one exported function, ``NAME_run``;
3. run it on the machine of the target, every kernel call compared with the integer reference, and, where this process
   can load it, the library too: it must give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from tvm_flow import __version__
from tvm_flow.backends.cpu.codegen import scheduled_kernels
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.backends.place import place
from tvm_flow.check.calls import Array, ExactnessReport, require_same_bits
from tvm_flow.check.graph_check import EMBED, SOURCES, link_trace, run_function, run_graph_checked
from tvm_flow.check.machines import Machine
from tvm_flow.check.sums import link_sums
from tvm_flow.compile.decoder_build import Timeless
from tvm_flow.compile.graph_source import (
    WEIGHTS,
    Interface,
    function_source,
    header_source,
    interface_of,
    tables_source,
    traced_source,
)
from tvm_flow.compile.library import compile_segments, plan_source
from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.names import unquoted
from tvm_flow.importer.initializers import SplitGraph
from tvm_flow.importer.legal import describe, opset_of
from tvm_flow.importer.load import read_onnx
from tvm_flow.importer.nodes import NodeRow, node_rows
from tvm_flow.importer.whole import import_whole, refused_node
from tvm_flow.lower.partition import partition_whole
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.static_plan import DTYPES, make_plan, tensor_bytes
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.tables import encode_constants
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import link_library


@dataclass(frozen=True)
class WholeGraph:
    """A graph file, read and lowered for a target, not compiled yet."""

    path: Path
    split: SplitGraph
    packed: PackedProgram
    rows: tuple[NodeRow, ...]

    @property
    def opset(self) -> int:
        """Version of ONNX's operators that it uses."""
        return opset_of(self.split.structure)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The graph's own."""
        return tuple(unquoted(value.name) for value in self.split.structure.graph.output)


@dataclass(frozen=True)
class BuiltGraph:
    """A linked graph: its library and header lie in the folder that it was built in."""

    whole: WholeGraph
    library: GroupLibrary
    interface: Interface
    target: TargetSpec

    @property
    def header(self) -> Path:
        """Beside the library."""
        return self.library.path.with_name(f"{self.interface.name}.h")


@dataclass(frozen=True)
class CheckedRun:
    """Outputs, by the graph's names, and what was compared on the way."""

    outputs: dict[str, Array]
    report: ExactnessReport
    where: str


def read_whole(path: Path, target: TargetSpec) -> WholeGraph:
    """Import and lower the graph ``path`` for the CPU of ``target``; raises ImportGraphError naming file and node."""
    split = read_onnx(path)
    graph = import_whole(split, str(path))
    _require_ports(path, split, graph)
    cpu = replace(target, backends=(CPU,))
    try:
        packed = _lowered(graph, cpu)
        rows = node_rows(split)
    except Exception as error:
        why = refused_node(split, error, lambda part: _lowered(part, cpu))
        raise ImportGraphError(f"{path}: {why}") from error
    return WholeGraph(path, split, packed, rows)


def _lowered(graph: LiftedGraph, target: TargetSpec) -> PackedProgram:
    """Placed and scheduled: what compiling may still refuse is not a matter of one node."""
    packed = place(partition_whole(graph), target)
    for call in packed.program.calls:
        for name in (*call.args, call.output):
            tensor_bytes(packed.program.tensors[name])
    scheduled_kernels(packed)
    return packed


def _require_ports(path: Path, split: SplitGraph, graph: LiftedGraph) -> None:
    """Raise ImportGraphError naming an input or output that no plan can hold."""
    graph_proto, opset = split.structure.graph, opset_of(split.structure)
    sides = {"input": graph_proto.input, "output": graph_proto.output}
    for side, values in sides.items():
        for value in values:
            if side == "input" and value.name not in graph.inputs:
                continue  # an initializer that is listed as an input too
            kind = value.type.tensor_type
            dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
            empty = any(extent.HasField("dim_value") and extent.dim_value < 1 for extent in kind.shape.dim)
            if dtype not in DTYPES or empty:
                near = next((n for n in graph_proto.node if value.name in (*n.input, *n.output)), None)
                where = f"opset {opset}" if near is None else describe(near, opset)
                raise ImportGraphError(
                    f"{path}: {where}: expected {side} {unquoted(value.name)!r} to be one of "
                    f"{', '.join(sorted(DTYPES))} with at least one element, got {'no element' if empty else dtype}; "
                    "cast it in the graph"
                )


def build_graph(whole: WholeGraph, name: str, target: TargetSpec, folder: Path) -> BuiltGraph:
    """Compile ``whole`` into ``folder``; ``name`` begins its symbols. Raises BuildError naming a kernel."""
    packed, given = whole.packed, whole.packed.program.graph.given
    tables = Timeless()
    store = WeightStore(folder / WEIGHTS)
    encoded = encode_constants(packed.constants, (given,), ((0, 0),), tables.folds, tables.step_records, store)
    plan = make_plan(packed, encoded, store.size, 0)
    interface = interface_of(name, packed.program, whole.output_names, plan)
    artifacts = compile_segments(packed, plan, target, folder, name)
    source = plan_source(plan, artifacts, target, name) + tables_source(packed.program, plan)
    (folder / "traced.c").write_text(source + traced_source(interface))
    path = folder / f"lib{name}.so"
    flags = (*target.c_flags, "-D_GNU_SOURCE", f"-I{folder}", f"-I{EMBED}", f"-Wl,-soname,{path.name}")
    parts = (*artifacts.objects, *SOURCES)
    link_library(parts, source + function_source(interface), target.zig_triple, path, flags, f"{name}_run")
    library = GroupLibrary(path, artifacts, packed, plan, ((0, 0),), tuple(encoded.variant_values()), (given,))
    built = BuiltGraph(whole, library, interface, target)
    features = " ".join(sorted(target.features))
    text = header_source(interface, whole.path.name, f"{target.name} ({target.triple})", features, __version__)
    built.header.write_text(text)
    return built


def check_graph(built: BuiltGraph, machine: Machine, feeds: Mapping[str, Array]) -> CheckedRun:
    """Run ``built`` on ``feeds``, by the names of its inputs, every kernel call compared with the reference.

    Raises BitExactError, or BuildError when it cannot be run.
    """
    library, folder = built.library, built.library.path.parent
    inputs = [feeds[port.name] for port in built.interface.inputs]
    program = link_trace((folder / "traced.c", *library.artifacts.objects), machine, built.target, folder)
    sums = link_sums(library.packed.products.values(), built.target, folder, machine.command)
    outputs, report = run_graph_checked(library, inputs, program, sums)
    if not machine.command:
        specs = [port.spec for port in built.interface.outputs]
        again = run_function(library.path, built.interface.name, inputs, specs)
        for port, expected, got in zip(built.interface.outputs, outputs, again, strict=True):
            require_same_bits(f"{library.path.name}, output {port.name}", expected, got)
    named = dict(zip((port.name for port in built.interface.outputs), outputs, strict=True))
    return CheckedRun(named, report, machine.describe())


def seeded_inputs(interface: Interface, seed: int = 0) -> dict[str, Array]:
    """Something to check a graph on that came without inputs: normal floats, all codes, and 0 or 1 as an index."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for port in interface.inputs:
        shape, dtype = port.spec.shape, np.dtype(port.spec.dtype)
        if dtype.kind == "f":
            found[port.name] = rng.standard_normal(shape).astype(dtype)
        else:
            low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max + 1) if dtype.itemsize == 1 else (0, 2)
            found[port.name] = rng.integers(low, high, shape).astype(dtype)
    return found


def require_feeds(ports: Sequence[tuple[str, tuple[int, ...], str]], feeds: Mapping[str, Array], where: str) -> None:
    """Raise ImportGraphError unless ``feeds`` has an array for every (name, shape, dtype)."""
    for name, shape, dtype in ports:
        if name not in feeds:
            raise ImportGraphError(
                f"{where}: expected an array named {name!r}, as the graph's input, got {', '.join(map(repr, feeds))}; "
                "save it under that name"
            )
        got = feeds[name]
        if (got.shape, str(got.dtype)) != (shape, dtype):
            raise ImportGraphError(
                f"{where}: {name!r}: expected {dtype} {list(shape)}, got {got.dtype} {list(got.shape)}; convert it"
            )
