"""Inspection: what is counted and compared, in every layout, without reading weights; and the command."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.stdit_by_hand import CONFIG, make_model
from support.tiny_folders import write_shards
from test_stdit import xl_2_shapes
from torch import Tensor

from tvm_flow.cli import main
from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.model import STDIT_XL_2, STDiT3, STDiT3Config, weights
from tvm_flow.model.inspect import inspect_checkpoint
from tvm_flow.model.weights import read_entries

KEY = "blocks.0.attn.qkv.weight"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    model = make_model()
    tables = {"pos_embed": model.position_embedding(2, 2)[None], "pos_embed_temporal": model.time_embedding(3)[None]}
    return {**model.state_dict(), **tables}


@pytest.fixture
def folder(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    return write_folder(tmp_path / "v1", state)


def write_folder(folder: Path, state: dict[str, Tensor]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    save_file(state, folder / "model.safetensors")
    return folder


def write_header(file: Path, shapes: dict[str, tuple[int, ...]], word: str, itemsize: int) -> int:
    """A safetensors file of full size that holds nothing: its data is a hole. Returns the bytes of the data."""
    header: dict[str, Any] = {}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + int(torch.Size(shape).numel()) * itemsize
        header[key] = {"dtype": word, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + end)
    return end


class TestInspection:
    def test_counts(self, folder: Path, state: dict[str, Tensor]) -> None:
        found = inspect_checkpoint(folder)
        assert found.config == CONFIG
        assert found.tensors == len(state)
        assert found.parameters == sum(p.numel() for p in make_model().parameters())
        assert found.bytes_of == {torch.float32: sum(value.nbytes for value in state.values())}
        assert found.recomputed == ("pos_embed", "pos_embed_temporal")
        assert not str(found.differences)

    def test_dtypes_are_told_apart(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        mixed = {key: value.half() if "mlp" in key else value.bfloat16() for key, value in state.items()}
        found = inspect_checkpoint(write_folder(tmp_path / "mixed", mixed))
        half = sum(value.nbytes for value in mixed.values() if value.dtype == torch.float16)
        assert found.bytes_of[torch.float16] == half
        assert sum(found.bytes_of.values()) == sum(value.nbytes for value in mixed.values())

    def test_every_difference_is_found_and_not_raised(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        broken = {**state, "surplus": torch.zeros(1), KEY: torch.zeros(3, 5)}
        del broken["t_block.1.bias"]
        keys = inspect_checkpoint(write_folder(tmp_path / "broken", broken)).differences
        assert keys.missing == ("t_block.1.bias",)
        assert keys.extra == ("surplus",)
        assert keys.misshapen == (f"{KEY} (have [3, 5] but require [72, 24])",)

    @pytest.mark.parametrize("wrapper", [None, "ema"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_pth_with_a_config(
        self, tmp_path: Path, folder: Path, state: dict[str, Tensor], wrapper: str | None, zipped: bool
    ) -> None:
        file = tmp_path / "v1.pth"
        torch.save({wrapper: state} if wrapper else state, file, _use_new_zipfile_serialization=zipped)
        found, same = inspect_checkpoint(file, folder / "config.json"), inspect_checkpoint(folder)
        assert (found.parameters, found.bytes_of, found.differences) == (
            same.parameters,
            same.bytes_of,
            same.differences,
        )
        with pytest.raises(CheckpointError, match="give the config"):
            inspect_checkpoint(file)

    def test_stdit3_and_shards(self, tmp_path: Path) -> None:
        config = STDiT3Config(depth=1, hidden=16, heads=2, in_channels=2, caption_channels=6, model_max_length=4)
        state = STDiT3(config).state_dict()
        write_shards(tmp_path, state)
        (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
        found = inspect_checkpoint(tmp_path)
        assert (found.config, found.tensors, str(found.differences)) == (config, len(state), "")

    def test_released_file_of_full_size(self, tmp_path: Path) -> None:
        """1.5 GB of fp16 on paper; the file is a hole, and reading it would take the test's memory and time."""
        size = write_header(tmp_path / "v1.safetensors", xl_2_shapes(), "F16", 2)
        found = inspect_checkpoint(tmp_path / "v1.safetensors")
        assert found.config == STDIT_XL_2
        assert found.parameters == 759_620_768
        assert found.tensors == 550
        assert found.bytes_of == {torch.float16: size}
        assert not str(found.differences)


class TestNothingIsRead:
    def test_safetensors(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(weights, "load_file", lambda _: pytest.fail("weights were read"))
        inspect_checkpoint(folder)

    def test_pth_is_mapped(self, tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
        torch.save(state, tmp_path / "v1.pth")
        asked: list[object] = []
        load = torch.load
        monkeypatch.setattr(torch, "load", lambda *a, **k: (asked.append(k["mmap"]), load(*a, **k))[1])
        assert set(read_entries(tmp_path / "v1.pth")) == set(state)
        assert asked == [True]

    def test_unknown_dtype(self, tmp_path: Path) -> None:
        write_header(tmp_path / "odd.safetensors", {"a": (2,)}, "U16", 2)
        with pytest.raises(CheckpointError, match=r"a: expected a dtype of .*, got U16"):
            read_entries(tmp_path / "odd.safetensors")

    @pytest.mark.parametrize("name", ["v1.safetensors", "v1.pth"])
    def test_damaged_files(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"\xff" * 64)
        with pytest.raises(CheckpointError, match=name):
            inspect_checkpoint(tmp_path / name)


class TestCommand:
    def test_a_whole_checkpoint_is_0(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["inspect", str(folder)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        lines = out.splitlines()
        assert lines[0] == "model: STDiT, depth 2, hidden 24, heads 2"
        count = sum(p.numel() for p in make_model().parameters())
        assert lines[1].startswith(f"parameters: {count:,} (")
        assert lines[2].startswith("float32: ")
        assert lines[3:] == [
            "recomputed, not loaded: pos_embed, pos_embed_temporal",
            "missing keys: none",
            "extra keys: none",
            "misshapen keys: none",
        ]

    def test_what_is_wrong_is_printed_and_is_2(
        self, tmp_path: Path, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept = {key: value for key, value in state.items() if "blocks.1" not in key} | {"odd": torch.zeros(1)}
        folder = write_folder(tmp_path / "torn", kept)
        assert main(["inspect", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out.count("\n  blocks.1.") == 19  # the listing is whole, the error is short
        assert "missing keys: 19" in out
        assert "extra keys: 1\n  odd\n" in out
        assert err.count("\n") == 1
        assert f"tvm-flow: {folder}: expected" in err
        assert "and 11 more" in err

    def test_config_option(
        self, tmp_path: Path, folder: Path, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
    ) -> None:
        save_file(state, tmp_path / "one.safetensors")
        assert main(["inspect", str(tmp_path / "one.safetensors")]) == 2
        assert "give the config" in capsys.readouterr().err
        assert main(["inspect", str(tmp_path / "one.safetensors"), "--config", str(folder / "config.json")]) == 0

    @pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "DiT"}', "{}"])
    def test_damaged_config(self, folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "config.json").write_text(text)
        with pytest.raises((CheckpointError, ConfigError)):
            inspect_checkpoint(folder)
        assert main(["inspect", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_nothing_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["inspect", str(tmp_path / "gone.pth")]) == 2
        assert "check the path" in capsys.readouterr().err
