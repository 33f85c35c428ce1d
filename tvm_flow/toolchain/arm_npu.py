"""Arm's tools for NPUs, all from PyPI (extra: npu-arm): TOSA text to a graph, a VGF, an Ethos-U command stream.

text --tosa-opt--> TOSA flatbuffer --tosa_reference_model--> what the specification says it computes
                                   --model_converter-->      VGF, for Vulkan devices with data graphs
                                   --vela-->                 command stream for Ethos-U, cycles and memory
"""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder

Array = npt.NDArray[Any]
ETHOS_U = {
    "ethos-u55-256": 256,
    "ethos-u65-512": 512,
    "ethos-u85-256": 256,
    "ethos-u85-512": 512,
    "ethos-u85-1024": 1024,
    "ethos-u85-2048": 2048,
}
"""int8 multiply-adds of a cycle, by vela's name of the accelerator."""
_MODULES = {
    "tosa_reference_model": "tosa-tools",
    "model_converter": "ai-ml-sdk-model-converter",
    "scenario_runner": "ai-ml-sdk-scenario-runner",
    "emulation_layer": "ai-ml-emulation-layer-for-vulkan",
    "ethosu": "ethos-u-vela",
}
_MOST_WORDS = 2000


def missing_packages() -> tuple[str, ...]:
    """Those of the extra that are not installed here, by their names on PyPI."""
    return tuple(package for module, package in _MODULES.items() if importlib.util.find_spec(module) is None)


@dataclass(frozen=True)
class EthosStream:
    """A graph compiled for an Ethos-U, and vela's estimates for its default system; compare those with each other only.

    ``weights`` are the encoded weights with their scales; ``scratch_bytes`` is what the graph needs beside them, its
    inputs in it at ``input_offsets``, in the order of the graph's, and its output at ``output_offset``.
    """

    accelerator: str
    commands: bytes
    weights: bytes
    macs: int
    cycles: int
    scratch_bytes: int
    fast_bytes: int
    """Of scratch that is to lie in the accelerator's own memory; 0 where there is none."""
    input_offsets: tuple[int, ...]
    output_offset: int
    sram_bytes: int

    @property
    def utilisation(self) -> float:
        """MACs over what the accelerator could do in these cycles."""
        return self.macs / (self.cycles * ETHOS_U[self.accelerator]) if self.cycles else 0.0


def serialized(text: str) -> bytes:
    """The TOSA flatbuffer of MLIR ``text``; raises BuildError with the tool's own words."""
    with temporary_folder("tosa") as folder:
        source, output = folder / "graph.mlir", folder / "graph.tosa"
        source.write_text(text)
        options = f"tosa-flatbuffer-filename={output} retain-graph-input-output-names=true"
        _run("tosa-opt", (str(source), f"--tosa-serialize={options}", "-o", os.devnull), "TOSA graph")
        return output.read_bytes()


def vgf_of(graph: bytes) -> bytes:
    """The VGF of a TOSA flatbuffer; raises BuildError."""
    with temporary_folder("vgf") as folder:
        source, output = folder / "graph.tosa", folder / "graph.vgf"
        source.write_bytes(graph)
        _run("model_converter", ("-i", str(source), "-o", str(output)), "VGF")
        return output.read_bytes()


def ethos_stream(graph: bytes, accelerator: str) -> EthosStream:
    """A TOSA flatbuffer compiled for ``accelerator`` of `ETHOS_U`.

    Raises BuildError naming an operator that the accelerator has not; vela leaves none to a CPU.
    """
    if accelerator not in ETHOS_U:
        raise BuildError(f"accelerator {accelerator!r}: expected one of {', '.join(ETHOS_U)}; choose one of them")
    with temporary_folder("vela") as folder:
        (folder / "graph.tosa").write_bytes(graph)
        shape = ("--accelerator-config", accelerator, "--output-format", "raw", "--output-dir", str(folder))
        _run("vela", (str(folder / "graph.tosa"), *shape), f"{accelerator} command stream")
        return _read_stream(folder, accelerator)


def _read_stream(folder: Path, accelerator: str) -> EthosStream:
    (summary,) = folder.glob("*_summary_*.csv")
    with summary.open(newline="") as file:
        row = next(csv.DictReader(file))
    with np.load(folder / "graph_vela.npz", allow_pickle=True) as parts:
        return EthosStream(
            accelerator,
            commands=parts["cmd_data"].tobytes(),
            weights=parts["weight_data"].tobytes(),
            macs=int(row["nn_macs"]),
            cycles=int(float(row["cycles_total"])),
            scratch_bytes=int(parts["scratch_size"]),
            fast_bytes=int(parts["scratch_fast_size"]),
            input_offsets=tuple(int(offset) for offset in parts["input_offset"]),
            output_offset=int(parts["output_offset"][0]),
            sram_bytes=int(float(row["sram_memory_used"]) * 1024),
        )


def reference_outputs(graph: bytes, inputs: Sequence[Array]) -> list[Array]:
    """What the TOSA reference model gives for a flatbuffer, as bytes in flat arrays; raises BuildError."""
    _require("tosa_reference_model")
    import tosa_reference_model as model

    outputs, status = model.run(graph, [np.ascontiguousarray(array) for array in inputs])
    if status != model.GraphStatus.TOSA_VALID:
        raise BuildError(f"TOSA graph: expected one that the reference model runs, got {status}; report this graph")
    return [np.frombuffer(output.tobytes(), np.uint8) for output in outputs]


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise BuildError(f"{_MODULES[module]}: expected it to be installed, got none; pip install tvm-flow[npu-arm]")


def _run(tool: str, arguments: Sequence[str], what: str) -> None:
    program = Path(sysconfig.get_path("scripts")) / tool
    if not program.exists():
        raise BuildError(f"{tool}: expected it beside {sys.executable}, got none; pip install tvm-flow[npu-arm]")
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # vela ends in a segmentation fault for some graphs (a RESCALE whose multiplier is no constant): no words then.
        words = (done.stdout + done.stderr).strip()[-_MOST_WORDS:] or "it said nothing"
        raise BuildError(
            f"{what}: expected {tool} to make it, got exit code {done.returncode}: {words}; see its message"
        )
