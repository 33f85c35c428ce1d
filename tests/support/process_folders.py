"""Folders for what a test process keeps until it ends: removed then, or by a later one where it was killed."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from pathlib import Path

from tvm_flow.scratch import temporary_folder


def of_this_process(what: str) -> Path:
    """A new one; see `temporary_folder`."""
    kept = ExitStack()
    atexit.register(kept.close)
    return kept.enter_context(temporary_folder(what))
