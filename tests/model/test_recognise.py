"""Which model a checkpoint is, in every layout; and STDiT's position tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.stdit_by_hand import CONFIG, make_model, normal
from test_stdit import xl_2_shapes
from torch import Tensor

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.model import (
    STDIT3_XL_2,
    STDIT_XL_2,
    STDIT_XL_2_256,
    STDiT,
    STDiT3,
    STDiT3Config,
    STDiTConfig,
    load_checkpoint,
    load_stdit3,
)
from tvm_flow.model.checkpoint import empty_model, shapes_of
from tvm_flow.model.recognise import find_config, model_type


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """As released: with both position tables, of a 2 x 2 grid and three frames."""
    model = make_model()
    tables = {"pos_embed": model.position_embedding(2, 2)[None], "pos_embed_temporal": model.time_embedding(3)[None]}
    return {**model.state_dict(), **tables}


def write_folder(folder: Path, state: dict[str, Tensor], config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    return folder


def assert_loaded(model: STDiT | STDiT3, state: dict[str, Tensor]) -> None:
    assert isinstance(model, STDiT)
    loaded = model.state_dict()
    assert set(state) - set(loaded) == {"pos_embed", "pos_embed_temporal"}
    assert all(torch.equal(loaded[key], state[key].float()) for key in loaded)
    assert not model.training
    args = normal(1, 3, 2, 4, 4), torch.tensor([5.0]), normal(1, 5, 10), torch.ones(1, 5).bool()
    torch.testing.assert_close(model(*args), make_model()(*args))


class TestLayouts:
    @pytest.mark.parametrize("wrapper", [None, "ema", "state_dict"])
    def test_pth(self, tmp_path: Path, state: dict[str, Tensor], wrapper: str | None) -> None:
        torch.save({wrapper: state} if wrapper else state, tmp_path / "model.pth")
        assert_loaded(load_checkpoint(tmp_path / "model.pth", CONFIG), state)

    def test_one_safetensors_file(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        save_file(state, tmp_path / "v1.safetensors")
        assert_loaded(load_checkpoint(tmp_path / "v1.safetensors", CONFIG), state)

    def test_folder_by_model_type(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        assert_loaded(load_checkpoint(write_folder(tmp_path, state, CONFIG.to_dict())), state)

    def test_folder_by_keys(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        values = {key: value for key, value in CONFIG.to_dict().items() if key != "model_type"}
        assert_loaded(load_checkpoint(write_folder(tmp_path, state, values)), state)

    @pytest.mark.parametrize("named", ["DiT", 3, ["STDiT"]])
    def test_folder_of_another_model(self, tmp_path: Path, state: dict[str, Tensor], named: object) -> None:
        folder = write_folder(tmp_path, state, {**CONFIG.to_dict(), "model_type": named})
        with pytest.raises(ConfigError, match=r"model_type: expected one of \['STDiT', 'STDiT3'\]"):
            load_checkpoint(folder)

    def test_the_other_models_config_is_named_by_its_keys(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        config = STDiT3Config(depth=2, hidden=24, heads=2, in_channels=3, caption_channels=10, model_max_length=5)
        with pytest.raises(CheckpointError, match=r"missing: fps_embedder.*extra: blocks"):
            load_checkpoint(write_folder(tmp_path, state, config.to_dict()))

    def test_where_only_stdit3_works(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError, match="expected an STDiT3 here, got an STDiT"):
            load_stdit3(write_folder(tmp_path, state, CONFIG.to_dict()))

    def test_damaged_file(self, tmp_path: Path) -> None:
        (tmp_path / "v1.safetensors").write_bytes(b"\xff" * 64)
        with pytest.raises(CheckpointError, match=r"v1\.safetensors: expected readable safetensors"):
            load_checkpoint(tmp_path / "v1.safetensors", CONFIG)


class TestReleased:
    """Files without a config, told by their names and shapes; nothing of full size is allocated."""

    def test_stdit_at_both_sizes(self) -> None:
        assert find_config(Path("v1.pth"), xl_2_shapes()) == STDIT_XL_2
        small = {**xl_2_shapes(), "pos_embed": (1, 256, 1152)}
        assert find_config(Path("v1.pth"), small) == STDIT_XL_2_256

    def test_stdit3(self) -> None:
        assert find_config(Path("v12.safetensors"), shapes_of(empty_model(STDIT3_XL_2))) == STDIT3_XL_2

    def test_without_its_table_the_space_scale_is_unknown(self) -> None:
        shapes = {key: shape for key, shape in xl_2_shapes().items() if not key.startswith("pos_embed")}
        with pytest.raises(CheckpointError, match="give the config"):
            find_config(Path("v1.pth"), shapes)

    @pytest.mark.parametrize("drop", ["blocks.27.", "blocks.0.scale_shift_table"])
    def test_another_size_is_not_guessed(self, drop: str) -> None:
        shapes = {key: shape for key, shape in xl_2_shapes().items() if not key.startswith(drop)}
        with pytest.raises(CheckpointError, match="give the config"):
            find_config(Path("v1.pth"), shapes)

    def test_names_alone(self) -> None:
        assert model_type(xl_2_shapes()) is STDiTConfig
        assert model_type({"spatial_blocks.0.attn.qkv.weight": (3, 1)}) is STDiT3Config
        assert model_type({"blocks.0.attn.qkv.weight": (3, 1)}) is None
        assert model_type({}) is None


class TestPositionTables:
    @pytest.mark.parametrize("change", [{"space_scale": 1.0}, {"time_scale": 1.0}])
    def test_another_scale_is_refused(self, tmp_path: Path, state: dict[str, Tensor], change: dict[str, float]) -> None:
        """The shapes are the same; only the tables tell."""
        folder = write_folder(tmp_path, state, {**CONFIG.to_dict(), **change})
        (name,) = change
        with pytest.raises(CheckpointError, match=rf"expected the positions of {name} 1\.0, got others"):
            load_checkpoint(folder)

    def test_half_precision_tables_pass(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        for dtype in (torch.float16, torch.bfloat16):
            half = {key: value.to(dtype) for key, value in state.items()}
            load_checkpoint(write_folder(tmp_path, half, CONFIG.to_dict()))

    @pytest.mark.parametrize("table", [torch.zeros(1, 6, 24), torch.zeros(3)])
    def test_unknown_layouts_are_passed_over(self, tmp_path: Path, state: dict[str, Tensor], table: Tensor) -> None:
        load_checkpoint(write_folder(tmp_path, {**state, "pos_embed": table}, CONFIG.to_dict()))

    def test_another_width_is_refused(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        folder = write_folder(tmp_path, {**state, "pos_embed": torch.zeros(1, 4, 23)}, CONFIG.to_dict())
        with pytest.raises(CheckpointError, match="pos_embed"):
            load_checkpoint(folder)
