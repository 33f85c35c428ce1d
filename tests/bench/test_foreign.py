"""onnxruntime's AArch64 wheel beside our kernel, under qemu, on one small product; downloads the wheel once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tvm_flow.bench import foreign, wheel
from tvm_flow.bench.arm import PAIRS, Pair, count_both
from tvm_flow.bench.foreign import onnxruntime_instructions_per_mac, write_product
from tvm_flow.bench.foreign_run import EmulatedCore
from tvm_flow.bench.shapes import Shape
from tvm_flow.bench.wheel import onnxruntime_library, write_root
from tvm_flow.errors import BuildError, ConfigError

CACHE = Path(__file__).resolve().parents[2] / wheel.CACHE


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.key)
def test_both_sides_run_the_instructions_they_are_measured_for(pair: Pair) -> None:
    """Products of one instruction on one core: SMULL 8, SDOT 16, SMMLA 32. Fewer than one for so many would mean
    that a wider one was used; three times as many, that a narrower one was."""
    ours, theirs = count_both(pair, Shape(32, 384, 384), CACHE)
    products = {"neon": 8, "sdot": 16, "smmla": 32}[pair.key]
    for count in (ours, theirs):
        assert 1 / products < count < 3 / products
    assert ours < theirs


def test_a_wrong_product_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_other(path: Path, shape: Shape, w: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> None:
        write_product(path, shape, np.roll(w, 1))

    monkeypatch.setattr(foreign, "write_product", write_other)
    with pytest.raises(BuildError, match="product 4x32x16 on cortex-a76: expected exact int32 sums"):
        onnxruntime_instructions_per_mac(EmulatedCore("cortex-a76", 0xD0B), Shape(4, 32, 16), CACHE)


def test_the_model_is_one_product_of_constant_weights(tmp_path: Path) -> None:
    w = np.arange(6, dtype=np.int8).reshape(3, 2)
    write_product(tmp_path / "m.onnx", Shape(5, 3, 2), w)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    (weights,) = model.graph.initializer
    assert (node.op_type, list(node.input)) == ("MatMulInteger", ["x", "w"])
    assert np.array_equal(onnx.numpy_helper.to_array(weights), w)


class TestWheel:
    def test_the_cached_library_is_not_downloaded_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library = onnxruntime_library(CACHE)
        assert library.read_bytes()[:20].endswith(b"\x03\x00\xb7\x00")  # a shared object for AArch64
        monkeypatch.setattr(wheel, "_download", None)
        assert onnxruntime_library(CACHE) == library

    def test_a_wheel_with_another_hash_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wheel, "SHA256", "0" * 64)
        with pytest.raises(
            ConfigError, match=r"onnxruntime .* expected pip to download it, got: .*Expected sha256 0{64} Got +da05378"
        ):
            onnxruntime_library(tmp_path)
        assert not list(tmp_path.rglob("*.so*"))

    def test_without_an_index_the_message_says_what_to_check(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"INDEX_URL": "http://127.0.0.1:9", "RETRIES": "0", "CONFIG_FILE": "/dev/null"}.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        with pytest.raises(ConfigError, match=r"check the network and pip's index$"):
            onnxruntime_library(tmp_path)


class TestRoot:
    def test_it_states_one_core_of_the_part(self, tmp_path: Path) -> None:
        root = write_root(tmp_path / "root", 0xD0B)
        assert "CPU part\t: 0xd0b\n" in (root / "proc" / "cpuinfo").read_text()
        assert (root / "sys" / "devices" / "system" / "cpu" / "present").read_text() == "0\n"
        assert (root / "lib" / "libstdc++.so.6").exists()

    def test_missing_libraries_are_named_with_their_packages(self, tmp_path: Path) -> None:
        (tmp_path / "libc.so.6").touch()
        with pytest.raises(ConfigError, match=r"missing ld-linux.*libstdc.*apt-get install libc6-arm64-cross"):
            write_root(tmp_path / "root", 0xD0B, tmp_path)
        assert not (tmp_path / "root").exists()
