"""One velocity of a model by several programs, each a process of its own: ``python -m tvm_flow.bench.contenders``.

    ours               the C runtime on a bundle
    onnxruntime_int8   the exported QDQ graph with every optimisation
    onnxruntime_fp32   the same step graph, exported with every layer in float
    openvino_int8      the exported QDQ graph; attention, as the graph has it, in float32
    openvino_int8_bf16 the same with attention, and all else that is no int8 product, in bfloat16
    openvino_fp32      the float graph
    torch_fp32         the float model
    torch_compiled     the same, compiled
    torch_bf16         the same, blocks in bfloat16
    torch_int8         the same, linears of blocks in int8 with ranges found at every call
    float64            the float model in double precision: what errors are measured against

All read the same latent, tokens and mask, and write ``NAME.npy``, float32 [C, T, H, W] (float64 for float64; a learned
variance is left out), beside
the files of `tvm_flow.bench.step`. The line on stdout holds the fastest round in milliseconds, the peak memory of the
process, and of ours the prologue's milliseconds: a round has it in it, as those of all others have the same work. Of a
contender that cannot run here, for what is not installed or the CPU lacks, it holds ``why`` and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.bench.step_inputs import StepFiles
from tvm_flow.bench.weighed import peak_mb
from tvm_flow.errors import BuildError

Array = npt.NDArray[Any]
Run = Callable[[], Array]


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


def openvino_graph(kind: str, precision: str = "f32") -> Callable[[StepFiles, int], Run]:
    """The export ``kind`` in OpenVINO, which computes in ``precision`` what the graph has in float32.

    Raises ImportError when it is not installed, BuildError for a precision that it has no instructions for here: it
    would compute in float32 and say nothing.
    """

    def prepare(files: StepFiles, threads: int) -> Run:
        import openvino

        core = openvino.Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            raise BuildError(f"this CPU has no instructions for bfloat16: OpenVINO names {', '.join(able)}")
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = core.compile_model(str(files.graph(kind)), "CPU", settings)
        request, inputs = compiled.create_infer_request(), np.load(files.inputs)
        feeds = {name: inputs[name] for name in ("z", "y", "mask")}
        return lambda: np.array(request.infer(feeds)[0])[: len(feeds["z"])]

    return prepare


def torch_step(name: str) -> Callable[[StepFiles, int], Run]:
    """The contender ``name`` of `tvm_flow.bench.torch_steps`, which is imported where it runs."""

    def prepare(files: StepFiles, threads: int) -> Run:
        from tvm_flow.bench import torch_steps

        prepared: Callable[[StepFiles, int], Run] = getattr(torch_steps, name)
        return prepared(files, threads)

    return prepare


CONTENDERS: dict[str, Callable[[StepFiles, int], Run]] = {
    "ours": ours,
    "onnxruntime_int8": onnxruntime_graph("int8"),
    "onnxruntime_fp32": onnxruntime_graph("fp32"),
    "openvino_int8": openvino_graph("int8"),
    "openvino_int8_bf16": openvino_graph("int8", "bf16"),
    "openvino_fp32": openvino_graph("fp32"),
    **{name: torch_step(name) for name in ("torch_fp32", "torch_compiled", "torch_bf16", "torch_int8", "float64")},
}


def main(arguments: list[str]) -> None:
    """NAME FOLDER THREADS ROUNDS."""
    name, folder, threads, rounds = arguments
    files = StepFiles(Path(folder))
    try:
        run = CONTENDERS[name](files, int(threads))
    except (BuildError, ImportError) as error:
        print(json.dumps({"why": str(error)}))
        return
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
