"""What target files say of a Vulkan device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.target.spec import load_target
from tvm_flow.target.target_names import targets_folder
from tvm_flow.target.vulkan_device import VulkanDevice

GOOD = "name: board\ntriple: aarch64-linux-gnu\ncpu: cortex-a76\nbackends: [vulkan, cpu]\nvulkan: {version: '1.1'}\n"
NAMES = sorted(path.stem for path in targets_folder().glob("vulkan-*.yaml"))


def write(folder: Path, text: str) -> str:
    path = folder / "board.yaml"
    path.write_text(text)
    return str(path)


def test_what_a_file_does_not_say_is_the_least_that_vulkan_guarantees(tmp_path: Path) -> None:
    device = load_target(write(tmp_path, GOOD)).vulkan
    assert device == VulkanDevice(version="1.1")
    assert (device.shared_bytes, device.invocations, device.storage_bytes) == (16384, 128, 1 << 27)
    assert device.capabilities == {"Shader"}


@pytest.mark.parametrize("name", NAMES)
def test_shipped_devices_say_where_their_numbers_are_from(name: str) -> None:
    spec = load_target(name)
    assert spec.vulkan is not None and spec.backends == ("vulkan", "cpu")
    assert spec.vulkan.source
    assert spec.describe()["vulkan"]["features"] == sorted(spec.vulkan.features)


def test_a_raspberry_pi_5_has_no_integer_dot_product() -> None:
    device = load_target("vulkan-raspberry-pi-5").vulkan
    assert device is not None and not device.has("integer_dot")
    assert (device.shared_bytes, device.invocations) == (16384, 256)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("vulkan: {version: 1.1}", "version: expected one of 1.0, 1.1"),
        ("vulkan: {vendor: acme}", "vendor: expected the name of a vendor"),
        ("vulkan: {features: [dot]}", r"features: unknown names \['dot'\]"),
        ("vulkan: {shared_bytes: 1024}", "shared_bytes: expected a whole number from 16384"),
        ("vulkan: {tiles: 3}", r"unknown keys \['tiles'\]"),
        ("cores: {big: 4}", "vulkan: expected a section, and vulkan among the backends, or neither"),
    ],
)
def test_a_wrong_section_is_named(wrong: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"board.yaml: vulkan: .*{words}" if "section" not in words else words):
        load_target(write(tmp_path, GOOD.replace("vulkan: {version: '1.1'}", wrong)))


def test_a_section_without_the_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vulkan among the backends"):
        load_target(write(tmp_path, GOOD.replace("[vulkan, cpu]", "[cpu]")))
