"""Which files of a checkpoint hold its weights, in the layouts of trainers and hubs.

FILE                                              .safetensors, or anything that torch.save wrote
FOLDER/model.safetensors                          transformers; or its shards, named by NAME.index.json
FOLDER/diffusion_pytorch_model.safetensors        diffusers; or shards
FOLDER/ema.pt                                     Open-Sora's averaged weights, which videos are made with
FOLDER/pytorch_model.bin                          older hubs; or shards
FOLDER/model/...                                  any of these: Open-Sora's epochN-global_stepM without ema.pt
FOLDER with one weight file of any name
"""

from __future__ import annotations

from pathlib import Path

from tvm_flow.documents import JSON_MOST, parse_json, read_small
from tvm_flow.errors import CheckpointError

SINGLE = "model.safetensors"
NAMES = (SINGLE, "diffusion_pytorch_model.safetensors", "ema.pt", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
SHOWN = 8


def weight_files(path: Path) -> list[Path]:
    """The files whose tensors make up the checkpoint ``path``.

    Raises CheckpointError naming what was found when nothing is there, an index cannot be read, or it is open which
    file is meant.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path}: expected a checkpoint folder, or a .pth or .safetensors file, got nothing; check the path"
        )
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"{path}: expected a regular file or a folder, got another kind; check the path")
        return [path]
    for folder in (path, path / "model"):
        for name in NAMES:
            index = folder / f"{name}.index.json"
            if (folder / name).is_file():
                return [folder / name]
            if index.exists():
                return _shards(index)
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(found) == 1:
        return found
    listed = sorted(file.name + "/" * file.is_dir() for file in path.iterdir())
    shown = ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
    raise CheckpointError(
        f"{path}: expected {', '.join(NAMES)} or shards of one, or a single weight file, got {shown or 'nothing'}; "
        "fetch the weights, or give the file instead of its folder"
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(parse_json(read_small(index, JSON_MOST))["weight_map"].values()))
        # Only the last component: an index from elsewhere must not reach out of its folder.
        return [index.parent / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: expected a weight_map of shards, got: {error!r}") from error
