"""Which model a checkpoint holds: config.json says it, or the names and shapes of its tensors do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm_flow.documents import JSON_MOST, parse_json, read_small
from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.model.config import STDIT3_XL_2, STDIT_XL_2, STDIT_XL_2_256, STDiT3Config, STDiTConfig

Shapes = Mapping[str, tuple[int, ...]]
AnyConfig = STDiTConfig | STDiT3Config
CONFIG_TYPES: tuple[type[AnyConfig], ...] = (STDiTConfig, STDiT3Config)


def find_config(path: Path, shapes: Shapes) -> AnyConfig:
    """The config of a checkpoint folder or file whose tensors have ``shapes``, position tables included.

    A folder's config.json names its model in model_type, or leaves that to the tensors. Without one the model must be
    a released one: nothing in the tensors says how many heads there are, nor the space scale.
    Raises CheckpointError when neither is known, ConfigError when config.json asks for what is not implemented.
    """
    if (path / "config.json").exists():
        return read_config(path / "config.json", shapes)
    kind = model_type(shapes)
    if kind is STDiT3Config and _is_size_of(STDIT3_XL_2, "spatial_blocks", shapes):
        return STDIT3_XL_2
    if kind is STDiTConfig and _is_size_of(STDIT_XL_2, "blocks", shapes):
        # A released table has one row for each place of a frame: 256 at 256 px, 1024 at 512 px.
        tables = {(1, 256, STDIT_XL_2.hidden): STDIT_XL_2_256, (1, 1024, STDIT_XL_2.hidden): STDIT_XL_2}
        table = shapes.get("pos_embed")
        if table in tables:
            return tables[table]
    if any(key.startswith("t_block_temp.") for key in shapes):
        raise CheckpointError(
            f"{path}: expected an STDiT (Open-Sora v1.0) or STDiT3 (v1.2), got an STDiT2 (v1.1), which is not "
            "implemented; take a checkpoint of another version"
        )
    raise CheckpointError(
        f"{path}: expected a config.json, or the tensors of STDiT-XL/2 (with pos_embed of 256 or 1024 places) or "
        f"STDiT3-XL/2, got {_told(kind, shapes)}; give the config (--config, or config in the build file)"
    )


def _told(kind: type[AnyConfig] | None, shapes: Shapes) -> str:
    """What a checkpoint holds that is no released model."""
    if kind is None:
        shown = ", ".join(sorted(shapes)[:4])
        return f"{len(shapes)} others ({shown}{', ...' if len(shapes) > 4 else ''})"
    table = f" with pos_embed {list(shapes['pos_embed'])}" if "pos_embed" in shapes else ""
    return f"{len(shapes)} tensors of another {kind.model_type}{table}"


def model_type(shapes: Shapes) -> type[AnyConfig] | None:
    """STDiTConfig or STDiT3Config, from the names alone; None when they are of neither."""
    if any(key.startswith("spatial_blocks.") for key in shapes):
        return STDiT3Config
    if any(key.startswith("blocks.") and ".attn_temp." in key for key in shapes):
        return STDiTConfig
    return None


def _is_size_of(config: AnyConfig, blocks: str, shapes: Shapes) -> bool:
    depth = len({key.split(".")[1] for key in shapes if key.startswith(f"{blocks}.") and key.count(".") > 1})
    tables = shapes.get(f"{blocks}.0.scale_shift_table")
    return depth == config.depth and tables == (6, config.hidden)


def read_config(file: Path, shapes: Shapes) -> AnyConfig:
    """The config in a JSON ``file``, of the model it names or, when it names none, of that with these ``shapes``.

    Raises CheckpointError when it cannot be read, ConfigError when it asks for what is not implemented.
    """
    try:
        values: Any = parse_json(read_small(file, JSON_MOST))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: expected a readable config.json, got: {error}; pass its folder, or give the config"
        ) from error
    named = values.get("model_type") if isinstance(values, dict) else None
    try:
        return config_from_dict(values) if named is not None else (model_type(shapes) or STDiT3Config).from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def config_from_dict(values: Mapping[str, Any]) -> AnyConfig:
    """The inverse of a config's ``to_dict``; raises ConfigError for an unknown model_type and impossible values."""
    known = {config.model_type: config for config in CONFIG_TYPES}
    named = values.get("model_type") if isinstance(values, Mapping) else None
    if not isinstance(named, str) or named not in known:
        raise ConfigError(f"model_type: expected one of {sorted(known)}, got {named!r}; check the folder")
    return known[named].from_dict(values)
