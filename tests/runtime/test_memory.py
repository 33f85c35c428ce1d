"""What a handle takes: said before, no more than said, none after open, and given back when asked."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from support import toy_bundle, toy_decoder

from tvm_flow.pack import Contents, write_bundle
from tvm_flow.toolchain.runtime_library import runtime_sources

ARENA = 16 << 20
WRAPPED = ("malloc", "calloc", "realloc", "posix_memalign", "mmap")


def test_memory_is_what_the_plan_said_and_stays_so_for_a_thousand_runs(contents: Contents, tmp_path: Path) -> None:
    """With a limit, a large arena that trim gives back, and previews on the way."""
    larger = toy_bundle.compile_group(tmp_path / "large.so", arena_bytes=ARENA)
    groups = [replace(contents.groups[0], library=larger), *contents.groups[1:]]
    decoder = toy_decoder.compile_decoder(tmp_path / "decoder.so")
    write_bundle(tmp_path / "b", toy_decoder.with_decoder(replace(contents, groups=groups), decoder))
    source, wraps = toy_bundle.SOURCES / "memory_check.c", [f"-Wl,--wrap={name}" for name in WRAPPED]
    program = toy_bundle.compile_c(tmp_path / "memory_check", [source, *runtime_sources()], "-O1", "-g", *wraps)
    done = subprocess.run([str(program), str(tmp_path / "b")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
