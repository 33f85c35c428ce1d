"""Cores, memory, and room for what commands write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tvm_flow.doctor.finding import Finding, Status
from tvm_flow.errors import ConfigError
from tvm_flow.room import expect_room

DEMO_BYTES = 100_000_000
"""The demo's files take 42 MB; while one is replaced, the old one is still there."""


def machine_findings(output: Path) -> Iterator[Finding]:
    """Cores and memory are told, not judged: what they must be depends on the model."""
    cores = len(os.sched_getaffinity(0))
    yield Finding("cores", Status.OK, f"{cores} of {os.cpu_count()} for this process", "every command")
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (page * os.sysconf(f"SC_{name}_PAGES") for name in ("PHYS", "AVPHYS"))
    yield Finding("memory", Status.OK, f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it unused", "every command")
    yield _disk(output)


def _disk(output: Path) -> Finding:
    mend = "run commands in a folder with room, or name one by --output"
    try:
        expect_room(output / "file", DEMO_BYTES)
    except ConfigError as error:
        return Finding("disk", Status.WRONG, str(error), "every command that writes", mend, required=True)
    folder = next(folder for folder in (output / "file").absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    return Finding("disk", Status.OK, f"{free / 1e9:.1f} GB free for {output}", "every command that writes", mend)
