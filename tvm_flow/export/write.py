"""Write every step graph, the weight file they share, and the tables that say how their constants depend on time.

The folder: ``weights.bin``; ``step_NNN_cond.onnx`` and ``step_NNN_uncond.onnx``; ``tables.safetensors`` with
``step_records`` float32 [steps, R], ``timesteps`` float64 [steps] and ``updates`` float64 [steps, 5] (see
`tvm_flow.sampler.update`), the golden and null captions, and ``<initializer>.base`` (and ``.gain``) for every
initializer that is (record[offset : offset + n] + base) * gain, with ``<initializer>.center`` float32 [steps, 2, n]
where that is subtracted at each step and branch; ``export.json``, written last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from tvm_flow.artifact import atomic_path, read_json, write_bytes, write_json
from tvm_flow.errors import ExportError
from tvm_flow.export.template import StepTemplates
from tvm_flow.export.writer import WeightFile
from tvm_flow.quantize.quantized import Fold, QuantizedModel

SCHEMA = 2
"""1 had Euler steps in place of updates."""
BRANCHES = ("cond", "uncond")
WEIGHTS = "weights.bin"
UNFINISHED = ".unfinished"
"""In the folder from the first write until export.json is there: what an interrupted export leaves is its own."""
FILES = ("export.json", "tables.safetensors", WEIGHTS, UNFINISHED)
"""Besides graphs."""


@dataclass(frozen=True)
class Exported:
    """An export folder, read back. ``graphs[step][branch]`` is the path of a graph."""

    folder: Path
    graphs: tuple[tuple[Path, ...], ...]
    folds: dict[str, Fold]
    step_records: npt.NDArray[np.float32]
    timesteps: npt.NDArray[np.float64]
    updates: npt.NDArray[np.float64]
    latent: tuple[int, ...]
    output_channels: int
    text: tuple[int, int]
    caption: npt.NDArray[np.float32]
    caption_length: int
    null_caption: npt.NDArray[np.float32]
    sampler: dict[str, Any]
    model: dict[str, Any]
    provenance: dict[str, Any]


def export(
    model: QuantizedModel,
    folder: Path,
    caption: tuple[npt.NDArray[np.float32], int] | None = None,
    steps: range | None = None,
    progress: bool = True,
) -> Exported:
    """Write the graphs of ``steps`` (all by default) into ``folder``, one of every structure checked by onnx.checker.

    ``caption`` is (tokens float32 [L, D], length): a prompt for the golden input; the null caption by default.
    ``export.json`` is removed first, with the graphs of an older export, and written last, so that a folder without
    it is known to be unfinished.

    Raises ExportError when a graph fails the checker or the caption has another shape.
    """
    check_output(folder)
    chosen = steps if steps is not None else range(len(model.timesteps))
    tables = _tables(model, list(chosen), caption)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / UNFINISHED, b"")
    (folder / "export.json").unlink(missing_ok=True)
    for old in folder.glob("step_*.onnx"):
        old.unlink()
    with atomic_path(folder / WEIGHTS) as temporary, temporary.open("wb") as stream:
        templates = StepTemplates(model, WeightFile(WEIGHTS, stream))
        for step in chosen:
            templates.add(step)
    graphs = []
    for step in tqdm(chosen, desc="export", unit="step", disable=not progress):
        for branch, name in enumerate(BRANCHES):
            graphs.append(f"step_{step:03d}_{name}.onnx")
            write_bytes(folder / graphs[-1], templates.graph(step, branch).SerializeToString())
    for step in templates.first.values():
        check_graph(folder / f"step_{step:03d}_{BRANCHES[0]}.onnx")
    write_bytes(folder / "tables.safetensors", save(tables))
    write_json(folder / "export.json", _description(model, graphs))
    (folder / UNFINISHED).unlink()
    return load_exported(folder)


def check_output(folder: Path) -> None:
    """Raise ExportError when ``folder`` holds something else than an export, finished or not.

    An export deletes and overwrites files by name; in a folder that is not its own those are somebody else's.
    """
    if not folder.exists() or any((folder / name).is_file() for name in ("export.json", UNFINISHED)):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        found = "a folder with other files" if folder.is_dir() else "a file"
        raise ExportError(
            f"{folder}: expected nothing, an empty folder or an export to replace, got {found}; choose another output"
        )


def load_exported(folder: Path) -> Exported:
    """Read ``folder`` back; raises ExportError when it is unfinished, damaged or of another schema."""
    path = folder / "export.json"
    if not path.exists():
        raise ExportError(f"{folder}: expected a finished export (export.json), got none; run tvm-flow export")
    description = read_json(path)
    if not isinstance(description, dict):
        raise ExportError(f"{path}: expected a mapping, got {type(description).__name__}; export again")
    if description.get("schema") != SCHEMA:
        raise ExportError(f"{path}: expected schema {SCHEMA}, got {description.get('schema')}; export again")
    try:
        return _read(folder, description, load_file(folder / "tables.safetensors"))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(
            f"{folder}: expected the tables and keys of an export, got {type(error).__name__}: {error}; export again"
        ) from error


def _read(folder: Path, description: dict[str, Any], tables: dict[str, npt.NDArray[Any]]) -> Exported:
    files = [folder / name for name in description["graphs"]]
    count = len(BRANCHES)
    return Exported(
        folder=folder,
        graphs=tuple(tuple(files[i : i + count]) for i in range(0, len(files), count)),
        folds={
            name: Fold(offset, tables[f"{name}.base"], tables.get(f"{name}.gain"), tables.get(f"{name}.center"))
            for name, offset in description["folds"].items()
        },
        step_records=tables["step_records"],
        timesteps=tables["timesteps"],
        updates=tables["updates"],
        latent=tuple(description["latent"]),
        output_channels=int(description["output_channels"]),
        text=(description["text"][0], description["text"][1]),
        caption=tables["caption"],
        caption_length=int(tables["caption_length"][0]),
        null_caption=tables["null_caption"],
        sampler=description["sampler"],
        model=description["model"],
        provenance=description["provenance"],
    )


def check_graph(path: Path) -> None:
    """Raise ExportError when onnx finds fault with the graph ``path``."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path}: expected a valid ONNX graph, the checker says: {error}; this is a bug") from error


def _tables(
    model: QuantizedModel, steps: list[int], caption: tuple[npt.NDArray[np.float32], int] | None
) -> dict[str, npt.NDArray[Any]]:
    null = model.params["y_embedder.y_embedding"]
    tokens, length = (null, len(null)) if caption is None else caption
    if tokens.shape != null.shape or not 0 <= length <= len(null):
        raise ExportError(
            f"caption: expected {list(null.shape)} tokens, at most {len(null)} of them real, "
            f"got {list(tokens.shape)} with {length}; embed it for this model"
        )
    tables: dict[str, npt.NDArray[Any]] = {
        "step_records": model.step_records[steps],
        "timesteps": model.timesteps[steps],
        "updates": model.updates[steps],
        "caption": np.ascontiguousarray(tokens, np.float32),
        "caption_length": np.array([length], np.int64),
        "null_caption": np.ascontiguousarray(null),
    }
    for name, fold in model.folds.items():
        tables[f"{name}.base"] = fold.base
        if fold.gain is not None:
            tables[f"{name}.gain"] = fold.gain
        if fold.center is not None:
            tables[f"{name}.center"] = fold.center[steps]
    return tables


def _description(model: QuantizedModel, graphs: list[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "graphs": graphs,
        "folds": {name: fold.offset for name, fold in model.folds.items()},
        "latent": list(model.latent),
        "output_channels": model.output_channels,
        "text": [model.config.model_max_length, model.config.caption_channels],
        "sampler": model.sampler.to_dict(),
        "model": model.config.to_dict(),
        "provenance": {"model_sha256": model.model_sha256, "recipe": model.recipe.to_dict()},
    }
