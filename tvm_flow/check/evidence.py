"""What a failure leaves: a folder beside the output with all that it takes to see it again without the model.

    evidence.json     the error, kernel and call, target, versions, and the command line
    module.txt        the graph, in Relax
    calls.txt         kernel calls of its program, in order
    kernel.txt .json  the kernel's meaning, in Relax, to read and to load
    tir.txt .json     the function that was compiled for it
    arguments.npz     what the kernel was given and, last, what it wrote
    expected.npz      what the integer reference makes of it, with its bound

``tvm-flow replay FOLDER`` (`tvm_flow.check.replay`) repeats the one kernel. A folder of the same name is replaced.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_flow import __version__
from tvm_flow.artifact import write_json
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.check.follow import FailedCall
from tvm_flow.check.kernels import scheduled_kernel
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.rounded import Rounded
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions

EVIDENCE = "evidence.json"


Checked = BitExactError | BuildError


@dataclass(frozen=True)
class Failure:
    """A kernel that disagreed or could not be compiled; ``seen`` is None when it never ran.

    ``kernel`` that is none of the program's is the name of what failed as a whole.
    """

    error: Checked
    target: TargetSpec
    packed: PackedProgram
    kernel: str
    seen: FailedCall | None = None


def evidence_folder(output: Path, kernel: str) -> Path:
    """Where the evidence of ``kernel`` lies, beside ``output``."""
    return output.with_name(f"{output.name}.failed-{kernel}")


def keep_evidence(output: Path, failure: Failure) -> Path | None:
    """Write the folder for ``failure`` of the compilation of ``output``; None when that cannot be done.

    Nothing that goes wrong here may hide the failure itself.
    """
    folder = evidence_folder(output, failure.kernel)
    try:
        if folder.exists() and not (folder / EVIDENCE).exists():
            return None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(folder, failure)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder


def with_folder(error: Checked, folder: Path | None) -> Checked:
    """The error to raise: BitExactError or BuildError as ``error`` is, saying where the evidence is."""
    if folder is None:
        return error
    kind = BitExactError if isinstance(error, BitExactError) else BuildError
    return kind(f"{error}. Kept in {folder}; repeat it: tvm-flow replay {shlex.quote(str(folder))}")


def _write(folder: Path, failure: Failure) -> None:
    packed, kernel, seen = failure.packed, failure.kernel, failure.seen
    program = packed.program
    (folder / "module.txt").write_text(program.graph.module.script())
    lines = (f"{i:5} {call.kernel}({', '.join(call.args)}) -> {call.output}" for i, call in enumerate(program.calls))
    (folder / "calls.txt").write_text("\n".join(lines) + "\n")
    if kernel not in program.kernels:
        write_json(folder / EVIDENCE, _facts(failure))
        return
    _save(folder, "kernel", program.kernels[kernel])
    with suppress(BuildError):  # then that is the failure
        _save(folder, "tir", scheduled_kernel(packed, kernel))
    if seen is not None:
        args = seen.seen.args
        np.savez(folder / "arguments.npz", *args)
        expected = expected_values(packed, kernel, args)
        np.savez(folder / "expected.npz", allow_pickle=False, **expected)
    write_json(folder / EVIDENCE, _facts(failure))


def _facts(failure: Failure) -> dict[str, Any]:
    seen, placement = failure.seen, failure.packed.placements.get(failure.kernel)
    return {
        "error": str(failure.error),
        "kernel": failure.kernel,
        "where": seen.where if seen else "",
        "call": seen.seen.call if seen else None,
        "device": failure.packed.device_of(failure.kernel),
        "packed": placement is not None and bool(placement.layouts),
        "target": failure.target.describe(),
        "versions": {"tvm-flow": __version__, "python": sys.version.split()[0], **compiler_versions()},
        "command": sys.argv,
    }


def _save(folder: Path, name: str, function: Any) -> None:
    (folder / f"{name}.txt").write_text(function.script())
    (folder / f"{name}.json").write_text(tvm.ir.save_json(function))


def expected_values(packed: PackedProgram, kernel: str, args: tuple[Array, ...]) -> dict[str, Array]:
    """The integer reference's ``value``, and for what may differ from it the ``error`` of a float or ``doubt``."""
    expected = packed.expected(kernel, list(args[:-1]))
    if isinstance(expected, Bounded):
        return {"value": expected.value, "error": expected.error}
    bound = {"doubt": expected.doubt} if isinstance(expected, Rounded) else {}
    return {"value": np.asarray(expected), **bound}
