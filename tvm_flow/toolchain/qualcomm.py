"""Qualcomm's HTP compiler and emulator, by onnxruntime's QNN provider (extra: npu-qualcomm), in a process of their own.

    QDQ ONNX --compiled for one SoC--> context binary, and a model that names it --emulated--> results

The process is for the provider's sake: it registers itself for as long as a process lasts, writes to standard output,
and would take this one with it. No operator may fall back to the CPU: what the compiler refuses is an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.scratch import temporary_folder

SOCS = {"sm8550": ("73", "43"), "sm8650": ("75", "57"), "sm8750": ("79", "69"), "sm8850": ("81", "87")}
"""Architecture of the HTP, and Qualcomm's number of the SoC."""
_MODULE, _PACKAGE = "onnxruntime_qnn", "onnxruntime-qnn"
_WORKER = "tvm_flow.toolchain.qualcomm_worker"
_MOST_WORDS = 2000


def missing_package() -> str:
    """Why there is no HTP here, "" where there is."""
    if importlib.util.find_spec(_MODULE) is None:
        return (
            f"{_PACKAGE}: expected it to be installed, got none; read Qualcomm's licence, and if you accept it, pip "
            "install tvm-flow[npu-qualcomm]"
        )
    return ""


def tool_version() -> str:
    """Of the package, which has the QNN libraries."""
    return importlib.metadata.version(_PACKAGE)


@dataclass(frozen=True, eq=False)
class HtpBlob:
    """A compiled graph: an ONNX model that names the file ``binary_name`` beside it, and that.

    ``scales`` are what the compiler says of its tensors, scale and zero point by name; ``outputs`` are the emulator's,
    of two runs.
    """

    wrapper: bytes
    binary_name: str
    binary: bytes
    scales: Mapping[str, tuple[float, int]]
    outputs: tuple[Array, Array]


def htp_blobs(graphs: Mapping[str, tuple[bytes, Array]], soc: str) -> Iterator[tuple[str, HtpBlob]]:
    """Each of ``graphs``, a QDQ model and its input by name, compiled for ``soc`` of `SOCS` and run, as it is done.

    Raises BuildError when the package is missing, and with Qualcomm's words.
    """
    if soc not in SOCS:
        raise BuildError(f"SoC {soc!r}: expected one of {', '.join(SOCS)}; choose one of them")
    if missing := missing_package():
        raise BuildError(missing)
    with temporary_folder("htp") as folder:
        for stem, (model, x) in graphs.items():
            (folder / f"{stem}.qdq").write_bytes(model)
            np.save(folder / f"{stem}.x.npy", x)
        with (folder / "words").open("w+b") as words:
            yield from _done(folder, soc, list(graphs), words)


def _done(folder: Path, soc: str, stems: list[str], words: IO[bytes]) -> Iterator[tuple[str, HtpBlob]]:
    command = [sys.executable, "-m", _WORKER, str(folder), *SOCS[soc], *stems]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True)
    assert worker.stdout is not None, "it is a pipe"
    done = 0
    try:
        for line in worker.stdout:
            if line.startswith("{"):  # the provider says things of its own
                said = json.loads(line)
                yield stems[done], _read(folder, stems[done], said["scales"])
                done += 1
    finally:
        worker.terminate()
        code = worker.wait()
        worker.stdout.close()
    if done < len(stems):
        text = (folder / "words").read_text(errors="replace").strip()[-_MOST_WORDS:]
        raise BuildError(
            f"{stems[done]} for {soc}: expected Qualcomm's compiler and emulator to take all of it, got exit code "
            f"{code}: {text or 'it said nothing'}; leave this layer outside"
        )


def _read(folder: Path, stem: str, scales: dict[str, list[float]]) -> HtpBlob:
    name = f"{stem}_qnn.bin"
    first, second = (np.load(folder / f"{stem}.y{run}.npy") for run in (0, 1))
    return HtpBlob(
        (folder / f"{stem}.onnx").read_bytes(),
        name,
        (folder / name).read_bytes(),
        {tensor: (scale, int(zero)) for tensor, (scale, zero) in scales.items()},
        (first, second),
    )
