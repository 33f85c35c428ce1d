"""Checkpoint loading: every accepted layout gives the same model, every defect is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.tiny_folders import write_shards
from torch import Tensor

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.model import STDiT3, STDiT3Config, Video, load_checkpoint

CONFIG = STDiT3Config(depth=1, hidden=16, heads=2, in_channels=2, caption_channels=6, model_max_length=4)
KEY = "spatial_blocks.0.attn.qkv.weight"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return STDiT3(CONFIG).state_dict()


def write_folder(folder: Path, state: dict[str, Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    save_file(state, folder / "model.safetensors")
    return folder


def assert_same(model: STDiT3, state: dict[str, Tensor]) -> None:
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(loaded[key], value.float()), key
        assert loaded[key].dtype == torch.float32
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_folder(tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert_same(load_checkpoint(write_folder(tmp_path, state)), state)


def test_half_precision_is_widened(tmp_path: Path, state: dict[str, Tensor]) -> None:
    half = {key: value.half() for key, value in state.items()}
    assert_same(load_checkpoint(write_folder(tmp_path, half)), half)


def test_sharded_folder(tmp_path: Path, state: dict[str, Tensor]) -> None:
    write_shards(tmp_path, state)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    assert_same(load_checkpoint(tmp_path), state)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("wrapper", [None, "ema", "state_dict"])
def test_pth_is_unwrapped(tmp_path: Path, state: dict[str, Tensor], wrapper: str | None) -> None:
    extra = {"pos_embed": torch.zeros(1, 4, 16), "pos_embed_temporal": torch.zeros(1, 2, 16)}
    whole = {**state, **extra}
    path = tmp_path / "model.pth"
    torch.save({wrapper: whole} if wrapper else whole, path)
    assert_same(load_checkpoint(path, CONFIG), state)


def test_model_runs_after_loading(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = load_checkpoint(write_folder(tmp_path, state))
    reference = STDiT3(CONFIG).eval()
    reference.load_state_dict(state)
    args = torch.randn(1, 2, 2, 4, 4), torch.tensor([5.0]), torch.randn(1, 4, 6), torch.ones(1, 4).bool()
    torch.testing.assert_close(model(*args, Video(8.0, 32, 32)), reference(*args, Video(8.0, 32, 32)))


def test_every_kind_of_wrong_key_is_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    broken = {**state, "surplus.weight": torch.zeros(1), KEY: torch.zeros(3, 5)}
    del broken["rope.freqs"]
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(write_folder(tmp_path, broken))
    message = str(caught.value)
    assert "1 missing: rope.freqs" in message
    assert "1 extra: surplus.weight" in message
    assert f"{KEY} (have [3, 5] but require [48, 16])" in message
    assert str(tmp_path) in message


def test_many_wrong_keys_are_counted(tmp_path: Path, state: dict[str, Tensor]) -> None:
    kept = {key: value for key, value in state.items() if "temporal" not in key}
    with pytest.raises(CheckpointError, match=r"17 missing: .* and 9 more"):
        load_checkpoint(write_folder(tmp_path, kept))


def test_absent_path(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="check the path"):
        load_checkpoint(tmp_path / "nowhere.pth", CONFIG)


def test_pth_needs_a_config(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="give the config"):
        load_checkpoint(tmp_path / "model.pth")


def test_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a header", b"\xff" * 64])
def test_damaged_safetensors(tmp_path: Path, state: dict[str, Tensor], content: bytes) -> None:
    folder = write_folder(tmp_path, state)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_damaged_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="weight_map"):
        load_checkpoint(tmp_path)


def test_index_cannot_reach_out_of_its_folder(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(state, tmp_path / "outside.safetensors")
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    index = {"weight_map": dict.fromkeys(state, "../outside.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="readable safetensors"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"plain text"])
def test_damaged_pth(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_checkpoint(path, CONFIG)


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.target), "w")


def test_pth_executes_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "executed")}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        load_checkpoint(tmp_path / "model.pth", CONFIG)
    assert not (tmp_path / "executed").exists()


def test_pth_of_something_else(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="list"):
        load_checkpoint(tmp_path / "model.pth", CONFIG)


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
def test_damaged_config(tmp_path: Path, state: dict[str, Tensor], content: str) -> None:
    folder = write_folder(tmp_path, state)
    (folder / "config.json").write_text(content)
    with pytest.raises((CheckpointError, ConfigError)):
        load_checkpoint(folder)
