"""What a checkpoint holds, told from names, shapes and dtypes; no weight is read into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tvm_flow.model.checkpoint import RECOMPUTED, KeyDifferences, compare_keys, empty_model, shapes_of
from tvm_flow.model.recognise import AnyConfig, find_config, read_config
from tvm_flow.model.weights import Entry, read_entries


@dataclass(frozen=True)
class Inspection:
    """A checkpoint, compared with the model it is of.

    ==============  ======================================================================
    parameters      elements in the file, without buffers: null caption, position tables
    bytes_of        bytes in the file for each dtype, buffers included, largest first
    recomputed      position tables in the file, which loading drops
    ==============  ======================================================================
    """

    path: Path
    config: AnyConfig
    tensors: int
    parameters: int
    bytes_of: Mapping[torch.dtype, int]
    recomputed: tuple[str, ...]
    differences: KeyDifferences

    def __str__(self) -> str:
        config, keys = self.config, self.differences
        lines = [
            f"model: {config.model_type}, depth {config.depth}, hidden {config.hidden}, heads {config.heads}",
            f"parameters: {self.parameters:,} ({self.tensors} tensors in the file, buffers included)",
            *(f"{str(dtype).removeprefix('torch.')}: {size:,} bytes" for dtype, size in self.bytes_of.items()),
            f"recomputed, not loaded: {', '.join(self.recomputed) or 'none'}",
        ]
        for kind, names in (("missing", keys.missing), ("extra", keys.extra), ("misshapen", keys.misshapen)):
            lines += [f"{kind} keys: {len(names) or 'none'}", *(f"  {name}" for name in names)]
        return "\n".join(lines)


def inspect_checkpoint(path: Path, config_file: Path | None = None) -> Inspection:
    """Compare the checkpoint at ``path`` with its model; ``config_file`` is a config.json to use instead of its own.

    Raises CheckpointError when something is unreadable or the model is unknown, ConfigError for a config that
    is not implemented. Keys that are missing, extra or misshapen are found and not raised.
    """
    entries = read_entries(path)
    shapes = {key: entry.shape for key, entry in entries.items()}
    config = read_config(config_file, shapes) if config_file else find_config(path, shapes)
    model = empty_model(config)
    buffers = {*RECOMPUTED, *(name for name, _ in model.named_buffers())}
    return Inspection(
        path=path,
        config=config,
        tensors=len(entries),
        parameters=sum(entry.count for key, entry in entries.items() if key not in buffers),
        bytes_of=_bytes_of(entries),
        recomputed=tuple(key for key in RECOMPUTED if key in entries),
        differences=compare_keys(shapes, shapes_of(model)),
    )


def _bytes_of(entries: Mapping[str, Entry]) -> dict[torch.dtype, int]:
    sizes: Counter[torch.dtype] = Counter()
    for entry in entries.values():
        sizes[entry.dtype] += entry.size
    return dict(sizes.most_common())
