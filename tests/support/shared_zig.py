"""One folder of zig's files, so that every checkout finds the C libraries that another has built.

zig keys what it builds by the path of its own files, and looks at their inodes and times: in a new .venv each C library
that the suite links with, a dozen of them, would be built again: minutes of both cores.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import ziglang

from tvm_flow.toolchain.versions import zig_version


def share_c_libraries() -> None:
    """Set ZIG_LIB_DIR for all that this process starts; where the user's cache cannot be written, nothing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm-flow"
    shared = cache / f"zig-lib-{zig_version()}"
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if not shared.is_dir():
            _keep(Path(ziglang.__file__).parent / "lib", shared)
        os.environ.setdefault("ZIG_LIB_DIR", str(shared))


def _keep(own: Path, shared: Path) -> None:
    """Link the files of ``own`` in ``shared``, which lasts when that .venv does not."""
    made = shared.with_name(f"{shared.name}.{os.getpid()}")
    try:
        shutil.copytree(own, made, copy_function=_link_or_copy)
        made.rename(shared)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not shared.is_dir():  # or another process was first
            raise


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
