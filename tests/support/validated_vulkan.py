"""Vulkan under Khronos' validation layers, synchronization too: what they say fails the test.

The layers read their settings once in a process, and every instance empties the file that they name before it writes
there. So a process has one pipe with a name for all that they say, which nothing empties but the reader.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from support.process_folders import of_this_process

_LAYER = Path("/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json")
_SETTINGS = """khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf
khronos_validation.log_filename = {}
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
"""


class Said:
    """What the layers wrote, in this process and those that it starts; a message is limited to 10 repetitions."""

    def __init__(self) -> None:
        folder = of_this_process("layers")
        pipe = folder / "said"
        os.mkfifo(pipe)
        self._descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # a writer, too: opening it never waits
        self._text = b""
        self.settings = folder / "vk_layer_settings.txt"
        self.settings.write_text(_SETTINGS.format(pipe))

    @property
    def text(self) -> str:
        """All since the last `take`."""
        while True:
            try:
                self._text += os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return self._text.decode()

    def take(self) -> str:
        """`text`, which is forgotten."""
        text, self._text = self.text, b""
        return text


@cache
def _of_this_process() -> Said:
    return Said()


@contextmanager
def validated() -> Iterator[Said]:
    """Every instance that is made inside has the layers; skips where lavapipe or they are not installed.

    What was said before fails: it belongs to a test that did not look.
    """
    missing = [name for name in ("glslangValidator", "spirv-val") if shutil.which(name) is None]
    if not _LAYER.exists() or not list(Path("/usr/share/vulkan/icd.d").glob("lvp*")) or missing:
        pytest.skip(f"lavapipe, Khronos' validation layers and glslang are Debian's: {missing or 'no driver'}")
    said = _of_this_process()
    assert said.take() == ""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VK_INSTANCE_LAYERS", "VK_LAYER_KHRONOS_validation")
        patched.setenv("VK_LAYER_SETTINGS_PATH", str(said.settings))
        patched.setenv("TVM_FLOW_VULKAN_DEVICE", "llvmpipe")
        yield said
