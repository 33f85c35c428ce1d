"""One name for zig's files, so that every checkout finds the C libraries that another has built.

zig keys what it builds by the path of its own files. In a new .venv each C library that the suite links with, eight
of them, would be built again: minutes of both cores.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import ziglang

from tvm_flow.toolchain.versions import zig_version


def share_c_libraries() -> None:
    """Set ZIG_LIB_DIR for all that this process starts; where the user's cache cannot be written, nothing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm-flow"
    own, shared = (Path(ziglang.__file__).parent / "lib").resolve(), cache / f"zig-{zig_version()}"
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if not shared.is_symlink() or shared.readlink() != own:
            made = cache / f"{shared.name}.{os.getpid()}"
            made.symlink_to(own)
            made.replace(shared)
        os.environ.setdefault("ZIG_LIB_DIR", str(shared))
