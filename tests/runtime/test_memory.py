"""What a handle takes: said before, no more than said, none after open, and given back when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle, toy_decoder
from support.sanitized import SANITIZERS, sanitized_runtime
from test_sanitizers import build, run

from tvm_flow.pack import Contents, write_bundle
from tvm_flow.toolchain.runtime_library import runtime_sources

ARENA = 16 << 20
WRAPPED = ("malloc", "calloc", "realloc", "posix_memalign", "mmap")


@pytest.mark.parametrize("watched", [False, True], ids=["plain", "thread"])
def test_memory_is_what_the_plan_said_and_stays_so_for_a_thousand_runs(
    contents: Contents, tmp_path: Path, watched: bool
) -> None:
    """With a limit, a large arena that trim gives back, and previews on the way.

    Not under AddressSanitizer, which keeps what is freed: the process grows.
    """
    larger = toy_bundle.compile_group(tmp_path / "large.so", arena_bytes=ARENA)
    groups = [replace(contents.groups[0], library=larger), *contents.groups[1:]]
    decoder = toy_decoder.compile_decoder(tmp_path / "decoder.so")
    write_bundle(tmp_path / "b", toy_decoder.with_decoder(replace(contents, groups=groups), decoder))
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    thread = SANITIZERS["thread"]
    flags, runtime = ([thread], [sanitized_runtime(thread)]) if watched else ([], runtime_sources())
    program = build(tmp_path, "memory_check", runtime, *flags, *wraps)
    assert run(program, str(tmp_path / "b")) == "ok\n"
