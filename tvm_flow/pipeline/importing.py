"""The import command: an ONNX graph from elsewhere to a checked library, a header and a report.

libNAME.so   the graph as one function, its weights inside
NAME.h       its inputs and outputs, and how to call it
report.json  what became of every node and kernel, and what was checked
out.npz      with inputs given: the outputs that it computes, by the graph's names
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from tvm_flow.artifact import exclusive, is_current, make_stamp, read_json, require_exec, write_json, write_stamp
from tvm_flow.check.calls import Array
from tvm_flow.check.machines import machine_of
from tvm_flow.compile.failures import kept_check
from tvm_flow.compile.graph_build import (
    BuiltGraph,
    CheckedRun,
    WholeGraph,
    build_graph,
    check_graph,
    read_whole,
    require_feeds,
    seeded_inputs,
)
from tvm_flow.compile.graph_report import Report, graph_report
from tvm_flow.compile.graph_source import identifier
from tvm_flow.compile.told import stage_of, told
from tvm_flow.errors import BitExactError, BuildError, ConfigError, ImportGraphError
from tvm_flow.folders import new_directory
from tvm_flow.graph.names import unquoted
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.room import expect_room
from tvm_flow.scratch import WORK, beside
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions

REPORT, OUTPUTS = "report.json", "out.npz"
_SEEDED = "random inputs, seed 0"
_DAMAGED = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class ImportRequest:
    """What to import, for which target, and where to; ``inputs`` is an .npz to compute, None for none."""

    graph: Path
    target: TargetSpec
    output: Path
    inputs: Path | None = None
    name: str | None = None
    progress: bool = True


def import_stage(wanted: ImportRequest) -> Report:
    """Write the folder ``wanted.output``, whole or not at all; nothing is done when it is current.

    Raises ImportGraphError naming file, node, operator and opset for what cannot be imported, ConfigError for an
    output that is something else, BuildError, or BitExactError when a kernel call disagrees with the reference, with
    evidence of it beside the output.
    """
    if wanted.name == "":
        raise ConfigError("name: expected letters for library, header and function, got nothing; leave --name out")
    name, output = identifier(wanted.name or wanted.graph.stem), wanted.output
    _check_output(output)
    expect_room(output)
    require_exec(output, "what is compiled is loaded from there: choose another output")
    with exclusive(output):
        files = {"graph": wanted.graph} | {f"external {name}": path for name, path in _external(wanted.graph).items()}
        files |= {"inputs": wanted.inputs} if wanted.inputs is not None else {}
        options = {"name": name, "target": wanted.target.describe(), "compilers": compiler_versions()}
        stamp = make_stamp(files, options, __name__)
        if is_current(output, stamp):
            return dict(read_json(output / REPORT))
        with beside(output, WORK) as work:
            try:
                report = _import(wanted, name, work)
            except (BuildError, BitExactError) as error:
                kind = BuildError if isinstance(error, BuildError) else BitExactError
                raise kind(f"{wanted.graph}: {error}") from error
        write_stamp(output, stamp)
    return report


def _import(wanted: ImportRequest, name: str, work: Path) -> Report:
    machine = machine_of(wanted.target)
    feeds = None if wanted.inputs is None else _load(wanted.inputs)
    with told("import", 3, "stage", shown=wanted.progress) as bar, interrupts_kept():
        stage = stage_of(bar)
        stage("read")
        whole = read_whole(wanted.graph, wanted.target)
        if feeds is not None:
            require_feeds(_ports(whole), feeds, str(wanted.inputs))
        bar.update()
        stage(f"compile {len(whole.packed.program.kernels)} kernels")
        built = build_graph(whole, name, wanted.target, work)
        bar.update()
        stage("check")
        try:
            run = check_graph(built, machine, seeded_inputs(built.interface) if feeds is None else feeds)
        except BitExactError as error:
            raise kept_check(error, [built.library], "graph", wanted.target, wanted.output) from error
        bar.update()
    report = graph_report(built, run, _SEEDED if wanted.inputs is None else wanted.inputs.name)
    _write(wanted.output, built, report, None if feeds is None else run)
    return report


def _write(output: Path, built: BuiltGraph, report: Report, run: CheckedRun | None) -> None:
    with new_directory(output) as folder:
        for path in (built.library.path, built.header):
            shutil.copyfile(path, folder / path.name)
        write_json(folder / REPORT, report)
        if run is not None:
            _save(folder / OUTPUTS, run.outputs)


def _save(path: Path, arrays: dict[str, Array]) -> None:
    """As np.savez does, whose keywords cannot be called `file`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def _load(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, TypeError, EOFError, NotImplementedError, *_DAMAGED) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{path}: expected arrays as numpy.savez writes them, got: {words}; check the path"
        ) from error


def _ports(whole: WholeGraph) -> list[tuple[str, tuple[int, ...], str]]:
    program = whole.packed.program
    specs = [(name, program.tensors[name]) for name in program.graph.inputs]
    return [(unquoted(name), spec.shape, spec.dtype) for name, spec in specs]


def _external(graph: Path) -> dict[str, Path]:
    """Files beside ``graph`` that hold its weights; the import says what is wrong with them."""
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except OSError as error:
        raise ConfigError(f"{graph}: expected an ONNX graph, got: {error.strerror}; check the path") from error
    except Exception as error:
        words = " ".join(str(error).split())
        raise ImportGraphError(f"{graph}: expected an ONNX graph, got: {words}; export it again") from error
    tensors = (tensor for tensor in model.graph.initializer if uses_external_data(tensor))
    locations = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return {place: graph.parent / place for place in sorted(locations) if (graph.parent / place).is_file()}


def _is_import(folder: Path) -> bool:
    """True for a folder with a report and nothing that an import does not write."""
    names = [path.name for path in folder.iterdir()]
    return REPORT in names and all(name in (REPORT, OUTPUTS) or name.endswith((".so", ".h")) for name in names)


def _check_output(output: Path) -> None:
    """Raise ConfigError when ``output`` holds something else than an earlier import: a typo must not cost a folder."""
    if not output.name:
        raise ConfigError(f"{output}: expected a folder with a name of its own, got this one; choose another path")
    if output.is_dir() and (not any(output.iterdir()) or _is_import(output)):
        return
    if output.exists():
        found = "a folder with other files" if output.is_dir() else "a file"
        raise ConfigError(
            f"{output}: expected nothing, an empty folder or an earlier import to replace, got {found}; choose another "
            "path"
        )
