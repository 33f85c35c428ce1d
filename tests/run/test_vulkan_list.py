"""`tvm-flow devices`: what the machine has, by the runtime's own eyes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.validated_vulkan import Said, validated

from tvm_flow.cli import main
from tvm_flow.errors import RuntimeFailure
from tvm_flow.run.vulkan_list import vulkan_devices


def test_lavapipe_is_listed_with_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    with validated() as said:
        assert main(["devices"]) == 0
        (device,) = (device for device in vulkan_devices() if device.name.startswith("llvmpipe"))
        listed(device.index, said, capsys.readouterr().out)
    assert device.kind == "CPU" and device.subgroup == 8 and device.shared_bytes == 32768
    assert "integer dot product" not in device.lacks and "16-bit floats" not in device.lacks


def listed(index: int, said: Said, printed: str) -> None:
    assert re.search(rf"^vulkan {index}: llvmpipe.* \(CPU\), driver llvmpipe, Vulkan 1\.\d.*\n  lacks: ", printed, re.M)
    assert said.text == ""


def test_without_a_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TVM_FLOW_VULKAN_LOADER", str(tmp_path / "libvulkan.so"))
    with pytest.raises(RuntimeFailure, match=r"device vulkan: expected libvulkan.*; install libvulkan1"):
        vulkan_devices()
