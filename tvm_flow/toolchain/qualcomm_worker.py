"""The process of `tvm_flow.toolchain.qualcomm`: ``FOLDER ARCHITECTURE SOC STEM..`` compiles and runs each STEM.qdq.

Writes STEM.onnx, which names STEM_qnn.bin, and the results of two runs of STEM.x.npy, STEM.y0.npy and STEM.y1.npy;
and for each a line of JSON to standard output: what the compiler says of scales. Ends with 1 at the first failure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_PROVIDER = "QNNExecutionProvider"
_PER_TENSOR = 0
"""A tensor's encoding by one scale and one offset; those by channel are not in the compiler's words."""


def session(model: bytes | str, device: tuple[str, str], entries: Mapping[str, str], options: Mapping[str, str]) -> Any:
    """An onnxruntime session on the HTP alone: on x86 the provider claims the CPU as its device, and emulates."""
    import onnxruntime
    import onnxruntime_qnn

    chosen = onnxruntime.SessionOptions()
    for key, value in {"session.disable_cpu_ep_fallback": "1", **entries}.items():
        chosen.add_session_config_entry(key, value)
    architecture, soc = device
    devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == _PROVIDER][:1]
    chosen.add_provider_for_devices(
        devices,
        {
            **{"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "htp_arch": architecture, "soc_model": soc},
            **{"htp_graph_finalization_optimization_mode": "3", "offload_graph_io_quantization": "0"},
            **options,
        },
    )
    return onnxruntime.InferenceSession(model, sess_options=chosen)


def compiled(folder: Path, stem: str, device: tuple[str, str]) -> dict[str, tuple[float, int]]:
    """Write the context binary of STEM.qdq; scale and zero point of each tensor that has one of either."""
    path, words = str(folder / f"{stem}.onnx"), folder / f"{stem}.json"
    words.mkdir()
    entries = {"ep.context_enable": "1", "ep.context_file_path": path, "ep.context_embed_mode": "0"}
    told = {"dump_json_qnn_graph": "1", "json_qnn_graph_dir": str(words)}
    session((folder / f"{stem}.qdq").read_bytes(), device, entries, told)
    (graph,) = (json.loads(file.read_text())["graph"] for file in words.iterdir() if "tensor_log" not in file.name)
    found = {name: tensor["quant_params"] for name, tensor in graph["tensors"].items() if "quant_params" in tensor}
    of_one = {name: said["scale_offset"] for name, said in found.items() if said.get("encoding") == _PER_TENSOR}
    return {name: (said["scale"], -said["offset"]) for name, said in of_one.items()}


def main(arguments: list[str]) -> int:
    """0, or 1 with the failure on standard error."""
    import onnxruntime
    import onnxruntime_qnn

    folder, device = Path(arguments[0]), (arguments[1], arguments[2])
    onnxruntime.register_execution_provider_library(_PROVIDER, onnxruntime_qnn.get_library_path())
    for stem in arguments[3:]:
        try:
            scales = compiled(folder, stem, device)
            ready = session(str(folder / f"{stem}.onnx"), device, {}, {})
            for run in (0, 1):
                np.save(folder / f"{stem}.y{run}.npy", ready.run(None, {"x": np.load(folder / f"{stem}.x.npy")})[0])
        except Exception as error:  # onnxruntime's have no base of their own; the other side hears of any
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
        print(json.dumps({"scales": scales}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
