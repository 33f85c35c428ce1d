"""Checkpoints as trainers and hubs write them: each layout loads, anything else is one line with what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tvm_flow.errors import CheckpointError
from tvm_flow.model import STDIT3_XL_2, STDiT3, STDiT3Config, load_checkpoint
from tvm_flow.model.checkpoint import empty_model, shapes_of
from tvm_flow.model.inspect import inspect_checkpoint
from tvm_flow.model.recognise import find_config

CONFIG = STDiT3Config(depth=1, hidden=16, heads=2, in_channels=2, caption_channels=6, model_max_length=4)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return {key: value.clone() for key, value in STDiT3(CONFIG).state_dict().items()}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stdit.json").write_text(json.dumps(CONFIG.to_dict()))
    return tmp_path / "elsewhere" / "stdit.json"


def shards(folder: Path, name: str, state: State, save: Callable[[State, Path], object]) -> None:
    """Two shards and their index, beside what trainers leave there too."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, _, suffix = name.rpartition(".")
    parts = {f"{stem}-0000{i}-of-00002.{suffix}": sorted(state)[i::2] for i in range(2)}
    for part, keys in parts.items():
        save({key: state[key] for key in keys}, folder / part)
    index = {"metadata": {}, "weight_map": {key: part for part, keys in parts.items() for key in keys}}
    (folder / f"{name}.index.json").write_text(json.dumps(index))
    (folder / "running_states.json").write_text("{}")


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


LAYOUTS: dict[str, Callable[[Path, State], object]] = {
    "ema.pt": lambda folder, state: torch.save(state, folder / "ema.pt"),
    "pytorch_model.bin": lambda folder, state: torch.save(state, folder / "pytorch_model.bin"),
    "diffusers": lambda folder, state: save_file(state, folder / "diffusion_pytorch_model.safetensors"),
    "one file of any name": lambda folder, state: torch.save(state, folder / "mine.pth"),
    "shards of bin": lambda folder, state: shards(folder, "pytorch_model.bin", state, torch.save),
    "shards of diffusers": lambda folder, state: shards(
        folder, "diffusion_pytorch_model.safetensors", state, lambda part, file: save_file(part, file)
    ),
    "open-sora": lambda folder, state: shards(folder / "model", "pytorch_model.bin", state, torch.save),
    "DataParallel": lambda folder, state: save_file(prefixed(state, "module."), folder / "model.safetensors"),
    "compiled": lambda folder, state: save_file(prefixed(state, "_orig_mod."), folder / "model.safetensors"),
    "both": lambda folder, state: torch.save(prefixed(state, "module._orig_mod."), folder / "ema.pt"),
    "DeepSpeed": lambda folder, state: torch.save({"module": state, "step": 3}, folder / "mine.pt"),
    "model key": lambda folder, state: torch.save({"model": state, "epoch": 3, "optimizer": {}}, folder / "m.pth"),
    "lightning": lambda folder, state: torch.save({"epoch": 1, "state_dict": state}, folder / "m.ckpt"),
    "nested": lambda folder, state: torch.save({"state_dict": {"model": prefixed(state, "module.")}}, folder / "m.pt"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_loads_and_is_inspected(tmp_path: Path, state: State, config: Path, layout: str) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    LAYOUTS[layout](folder, state)
    loaded = load_checkpoint(folder, config).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert not str(inspect_checkpoint(folder, config).differences)
    (folder / "config.json").write_text("\ufeff" + config.read_text(), encoding="utf-8")
    assert load_checkpoint(folder).config == CONFIG


def test_averaged_weights_go_before_those_that_were_trained(tmp_path: Path, state: State, config: Path) -> None:
    shards(tmp_path / "model", "pytorch_model.bin", {key: value + 1 for key, value in state.items()}, torch.save)
    torch.save(state, tmp_path / "ema.pt")
    assert torch.equal(load_checkpoint(tmp_path, config).state_dict()["t_block.1.bias"], state["t_block.1.bias"])
    torch.save({"model": {key: value + 1 for key, value in state.items()}, "ema": state}, tmp_path / "ema.pt")
    assert torch.equal(load_checkpoint(tmp_path, config).state_dict()["t_block.1.bias"], state["t_block.1.bias"])


def test_a_prefix_of_some_keys_is_part_of_their_names(tmp_path: Path, state: State, config: Path) -> None:
    some = {("module." + key if "mlp" in key else key): value for key, value in state.items()}
    torch.save(some, tmp_path / "ema.pt")
    with pytest.raises(CheckpointError, match=r"extra: module\.fps_embedder\.mlp.*module\.spatial_blocks"):
        load_checkpoint(tmp_path, config)


@pytest.mark.parametrize(
    ("names", "found"),
    [([], "got nothing"), (["a.pth", "b.pth"], r"got a\.pth, b\.pth"), (["notes.txt"], r"got notes\.txt")],
)
def test_a_folder_of_something_else_is_told(tmp_path: Path, state: State, names: list[str], found: str) -> None:
    for name in names:
        torch.save(state, tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"expected model\.safetensors, .*{found}; fetch the weights"):
        load_checkpoint(tmp_path)


def test_a_dict_of_something_else_is_told(tmp_path: Path, state: State, config: Path) -> None:
    torch.save({"weights": state, "epoch": 3}, tmp_path / "ema.pt")
    with pytest.raises(CheckpointError, match=r"got a dict with weights \(dict\), epoch \(int\)"):
        load_checkpoint(tmp_path, config)


def test_a_missing_shard_is_named(tmp_path: Path, state: State, config: Path) -> None:
    shards(tmp_path, "pytorch_model.bin", state, torch.save)
    (tmp_path / "pytorch_model-00001-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-00001-of-00002\.bin"):
        load_checkpoint(tmp_path, config)


def test_a_folder_without_a_config_says_what_to_give(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "ema.pt")
    with pytest.raises(
        CheckpointError, match=rf"got {len(state)} tensors of another STDiT3; give the config \(--config"
    ):
        load_checkpoint(tmp_path)
    torch.save({"lm_head.weight": torch.zeros(1)}, tmp_path / "ema.pt")
    with pytest.raises(CheckpointError, match=r"got 1 others \(lm_head\.weight\)"):
        load_checkpoint(tmp_path)


def test_a_released_model_in_a_folder_needs_no_config(tmp_path: Path) -> None:
    assert find_config(tmp_path, shapes_of(empty_model(STDIT3_XL_2))) == STDIT3_XL_2


def test_stdit2_is_named() -> None:
    shapes = {"blocks.0.attn_temp.qkv.weight": (3, 1), "t_block_temp.1.weight": (3456, 1152)}
    with pytest.raises(CheckpointError, match=r"got an STDiT2 \(v1\.1\), which is not implemented"):
        find_config(Path("v11.pth"), shapes)


def test_a_table_of_no_released_size_is_shown() -> None:
    shapes = {"blocks.0.attn_temp.qkv.weight": (3, 1), "pos_embed": (1, 920, 1152)}
    with pytest.raises(CheckpointError, match=r"another STDiT with pos_embed \[1, 920, 1152\]; give the config"):
        find_config(Path("v1.pth"), shapes)
