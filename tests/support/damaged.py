"""Small files of every kind that the flow reads from elsewhere, damaged by hundreds, and what readers make of them.

python -m support.damaged --inputs N        what scripts/damaged_files runs: {"pth": {"read": .., "refused": ..}, ..}
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from onnx import TensorProto, helper
from safetensors.torch import save

from tvm_flow.artifact import read_json
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.errors import TvmFlowError
from tvm_flow.importer.load import read_onnx
from tvm_flow.model.recognise import read_config
from tvm_flow.model.weights import read_entries, read_tensors
from tvm_flow.opensora.embeddings import load_embeddings
from tvm_flow.pipeline.config import load_build_config
from tvm_flow.quantize.recipe import load_recipe
from tvm_flow.scratch import temporary_folder
from tvm_flow.shipped import shipped_folder
from tvm_flow.target.spec import load_target

Reader = Callable[[Path], object]
LONGEST = 20.0
"""Seconds that one file may take on a busy machine; what is bounded takes a hundredth of it."""
SYNTAX = b"\0\n \t\"'{}[]&*!|>%@`:,-?#~.eE+\\9\xff"


def damaged(data: bytes, seed: int) -> bytes:
    """``data`` with one to four flips, cuts, repeats, insertions or exchanges, by ``seed``."""
    draw, out = random.Random(seed), bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, length = draw.randrange(len(out) + 1), draw.choice((1, 1, 2, 7, 64))
        match draw.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << draw.randrange(8)
            case 1:
                del out[at:]
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length] * draw.choice((1, 2, 200))
            case 4:
                out[at:at] = bytes([draw.choice(SYNTAX)]) * draw.choice((1, 2, 3, 5000))
            case _:
                out[at : at + length] = draw.randbytes(length)
    return bytes(out)


def samples(folder: Path) -> dict[str, tuple[bytes, str, tuple[Reader, ...]]]:
    """By kind: a whole file's bytes, its name's end, and who reads such files."""
    tensors = {"blocks.0.attn.qkv.weight": torch.arange(12.0).reshape(3, 4), "x.bias": torch.ones(3).half()}
    torch.save({"ema": tensors, "epoch": 3}, folder / "new.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    config = {"model_type": "STDiT3", "depth": 1, "hidden": 32, "heads": 2, "latent": [1, 2.5, None, True]}
    captions = {"tokens": torch.ones(1, 2, 3), "lengths": torch.tensor([2])}
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1.0] * 6)
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", shapes[:1], shapes[1:], [weight])
    calibration = shipped_folder("calibration")
    checkpoint: tuple[Reader, ...] = (read_tensors, read_entries)
    return {
        "pth": ((folder / "new.pth").read_bytes(), ".pth", checkpoint),
        "old_pth": ((folder / "old.pth").read_bytes(), ".pth", checkpoint),
        "safetensors": (save(tensors, {"a": "b"}), ".safetensors", checkpoint),
        "embeddings": (save(captions, {"captions": '["a prompt"]'}), ".safetensors", (load_embeddings,)),
        "onnx": (helper.make_model(graph).SerializeToString(), ".onnx", (read_onnx,)),
        "json": (json.dumps(config).encode(), ".json", (read_json, lambda path: read_config(path, {}))),
        "recipe_yaml": ((calibration / "recipes/w8a8_first_float.yaml").read_bytes(), ".yaml", (load_recipe,)),
        "build_yaml": ((calibration / "demo.yaml").read_bytes(), ".yaml", (load_build_config,)),
        "prompts_yaml": (b"prompts: [&a red, *a, 'x y']\nseed: 7\n", ".yaml", (load_prompts,)),
        "target_yaml": (
            (shipped_folder("targets") / "raspberry-pi-5.yaml").read_bytes(),
            ".yaml",
            (lambda path: load_target(str(path)),),
        ),
    }


def outcomes(kind: str, folder: Path, seeds: range) -> Iterator[tuple[int, str]]:
    """(seed, refusal) for each damaged file of ``kind``, the refusal empty where it still reads.

    Whatever else a reader raises is raised here, with the seed and the file left behind.
    """
    data, suffix, readers = samples(folder)[kind]
    for seed in seeds:
        path = folder / f"damaged{suffix}"
        path.write_bytes(damaged(data, seed))
        for read in readers:
            begun, refusal = time.monotonic(), ""
            try:
                read(path)
            except TvmFlowError as error:
                refusal = str(error)
            except BaseException as error:
                error.add_note(f"{kind}, seed {seed}: {path}")
                raise
            took = time.monotonic() - begun
            assert took < LONGEST, f"{kind}, seed {seed}: {took:.1f} s"
            yield seed, refusal


def main() -> None:
    """Print the counts as JSON; a traceback names the seed of what a reader did not expect."""
    parser = argparse.ArgumentParser(description="Damaged files of every kind, and what their readers say")
    parser.add_argument("--inputs", type=int, default=10_000, help="of each kind")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="of all, these alone")
    wanted = parser.parse_args()
    counts = {}
    with temporary_folder("damaged") as folder:
        for kind in wanted.kinds or samples(folder):
            told = [bool(refusal) for _, refusal in outcomes(kind, folder, range(wanted.inputs))]
            counts[kind] = {"files": wanted.inputs, "refused": sum(told), "read": len(told) - sum(told)}
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
