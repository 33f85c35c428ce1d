"""Vulkan under Khronos' validation layers, synchronization too: what they say fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_LAYER = Path("/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json")
_SETTINGS = """khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf
khronos_validation.log_filename = {}
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
"""


@dataclass(frozen=True)
class Said:
    """What the layers wrote so far."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text() if self.path.exists() else ""


@contextmanager
def validated(folder: Path) -> Iterator[Said]:
    """Every instance that is made inside has the layers; skips where lavapipe or they are not installed."""
    missing = [name for name in ("glslangValidator", "spirv-val") if shutil.which(name) is None]
    if not _LAYER.exists() or not list(Path("/usr/share/vulkan/icd.d").glob("lvp*")) or missing:
        pytest.skip(f"lavapipe, Khronos' validation layers and glslang are Debian's: {missing or 'no driver'}")
    said = Said(folder / "said.txt")
    settings = folder / "vk_layer_settings.txt"
    settings.write_text(_SETTINGS.format(said.path))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VK_INSTANCE_LAYERS", "VK_LAYER_KHRONOS_validation")
        patched.setenv("VK_LAYER_SETTINGS_PATH", str(settings))
        patched.setenv("TVM_FLOW_VULKAN_DEVICE", "llvmpipe")
        yield said
