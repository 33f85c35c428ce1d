"""One velocity of a model by several programs, each a process of its own: ``python -m tvm_flow.bench.contenders``.

    ours               the C runtime on a bundle
    onnxruntime_int8   the exported QDQ graph with every optimisation
    onnxruntime_fp32   the same step graph, exported with every layer in float
    openvino_int8      the exported QDQ graph; attention, as the graph has it, in float32
    openvino_fp32      the float graph
    torch_fp32         the float model
    float64            the float model in double precision: what errors are measured against

All read the same latent, tokens and mask, and write ``NAME.npy``, float32 [C, T, H, W] (float64 for float64; a learned
variance is left out), beside
the files of `tvm_flow.bench.step`. The line on stdout holds the fastest round in milliseconds, the peak memory of the
process, and of ours the prologue's milliseconds: a round has it in it, as those of all others have the same work.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.bench.weighed import peak_mb

Array = npt.NDArray[Any]
Run = Callable[[], Array]


@dataclass(frozen=True)
class StepFiles:
    """Where `tvm_flow.bench.step` puts what contenders read."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The float model."""
        return self.folder / "checkpoint"

    @property
    def bundle(self) -> Path:
        """Ours."""
        return self.folder / "bundle"

    def graph(self, kind: str) -> Path:
        """The conditional graph of the export ``kind``, int8 or fp32."""
        return self.folder / f"export_{kind}" / "step_000_cond.onnx"

    @property
    def inputs(self) -> Path:
        """z, y, mask (additive), length, t, fps, and how many calls of the bundle's step are its prologue."""
        return self.folder / "inputs.npz"

    def result(self, name: str) -> Path:
        """The velocity that contender ``name`` computed."""
        return self.folder / f"{name}.npy"


def ours(files: StepFiles, threads: int) -> Run:
    """The bundle's first step, conditional branch."""
    from tvm_flow.pack import Prompt
    from tvm_flow.run import Bundle

    inputs = np.load(files.inputs)
    bundle = Bundle.open(files.bundle, threads=threads)
    z, prompt = inputs["z"], Prompt(inputs["y"], inputs["mask"])
    return lambda: bundle.velocity(0, 0, z, prompt)[: len(z)]


def prologue_ms(files: StepFiles, threads: int, rounds: int) -> float:
    """The fastest of ``rounds`` prologues of our bundle: what depends on the prompt alone, once for each prompt."""
    from tvm_flow.pack import Prompt
    from tvm_flow.run import Bundle, TracedCall

    inputs = np.load(files.inputs)
    taken: list[int] = []

    def keep(call: TracedCall) -> None:
        if call.call < inputs["prologue"]:
            taken[-1] += call.ended_ns - call.started_ns

    with Bundle.open(files.bundle, threads=threads) as bundle, bundle.trace(keep):
        for _ in range(rounds):
            taken.append(0)
            bundle.velocity(0, 0, inputs["z"], Prompt(inputs["y"], inputs["mask"]))
    return min(taken) / 1e6


def onnxruntime_graph(kind: str) -> Callable[[StepFiles, int], Run]:
    """The export ``kind`` in onnxruntime."""

    def prepare(files: StepFiles, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(str(files.graph(kind)), options, providers=["CPUExecutionProvider"])
        inputs = np.load(files.inputs)
        feeds = {name: inputs[name] for name in ("z", "y", "mask")}
        return lambda: np.asarray(session.run(None, feeds)[0])[: len(feeds["z"])]

    return prepare


def openvino_graph(kind: str) -> Callable[[StepFiles, int], Run]:
    """The export ``kind`` in OpenVINO, which would else compute in bfloat16 what the graph has in float32."""

    def prepare(files: StepFiles, threads: int) -> Run:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = openvino.Core().compile_model(str(files.graph(kind)), "CPU", settings)
        request, inputs = compiled.create_infer_request(), np.load(files.inputs)
        feeds = {name: inputs[name] for name in ("z", "y", "mask")}
        return lambda: np.array(request.infer(feeds)[0])[: len(feeds["z"])]

    return prepare


def torch_model(files: StepFiles, threads: int, double: bool = False) -> Run:
    """The float model's velocity; ``double`` computes all of it, softmax and norms included, in float64."""
    import torch

    from tvm_flow.model import Video, load_checkpoint

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    model, inputs = load_checkpoint(files.checkpoint), np.load(files.inputs)
    if double:
        model = model.double()
        # This process does nothing else: where the model asks for single precision it gets double.
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    kind = torch.float64 if double else torch.float32
    z, y = (torch.from_numpy(inputs[name]).to(kind)[None] for name in ("z", "y"))
    mask = torch.arange(y.shape[1])[None] < int(inputs["length"])
    t = torch.tensor([float(inputs["t"])], dtype=kind)
    video = Video(float(inputs["fps"]), float(inputs["height"]), float(inputs["width"]))

    def run() -> Array:
        out = model(z, t, y, mask, video)
        return np.asarray(out[0, : z.shape[1]].numpy())

    return run


def float64_model(files: StepFiles, threads: int) -> Run:
    """`torch_model` in double precision."""
    return torch_model(files, threads, double=True)


CONTENDERS: dict[str, Callable[[StepFiles, int], Run]] = {
    "ours": ours,
    "onnxruntime_int8": onnxruntime_graph("int8"),
    "onnxruntime_fp32": onnxruntime_graph("fp32"),
    "openvino_int8": openvino_graph("int8"),
    "openvino_fp32": openvino_graph("fp32"),
    "torch_fp32": torch_model,
    "float64": float64_model,
}


def main(arguments: list[str]) -> None:
    """NAME FOLDER THREADS ROUNDS."""
    name, folder, threads, rounds = arguments
    files = StepFiles(Path(folder))
    run = CONTENDERS[name](files, int(threads))
    best, result = float("inf"), np.zeros(0)
    for _ in range(int(rounds)):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    np.save(files.result(name), result)
    line = {"ms": best * 1000, "peak_mb": peak_mb()}
    if name == "ours":
        line["prologue_ms"] = prologue_ms(files, int(threads), int(rounds))
    print(json.dumps(line))


if __name__ == "__main__":
    main(sys.argv[1:])
