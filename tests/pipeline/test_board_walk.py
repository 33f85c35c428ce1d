"""The commands of runtime/README.md, run as they stand there: from a bundle to frames on AArch64, under qemu."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.elf_file import read_elf
from support.example_programs import read_frames, run
from support.small_demo import SmallDemo

from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions, Emit
from tvm_flow.errors import BuildError
from tvm_flow.export import load_exported
from tvm_flow.pack import verify_bundle
from tvm_flow.sources import PACKAGE
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.runtime_library import RUNTIME, SONAME, build_runtime, build_static_runtime
from tvm_flow.toolchain.zig import zig_cc

README = (RUNTIME / "README.md").read_text()
WALK = README.partition("## From a bundle to frames on AArch64")[2].partition("\n## ")[0]
SYSROOT = Path("/usr/aarch64-linux-gnu")
A72 = TargetSpec("T", "aarch64-linux-gnu", "cortex-a72", frozenset({"neon"}))
"""Named as the README calls a target; its kernels are those of the Raspberry Pi 4 in `test_boards`."""
pytestmark = pytest.mark.usefixtures("kernels_once")
needs_board = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None or not SYSROOT.is_dir(),
    reason="no qemu-aarch64 or no glibc for it: apt-get install qemu-user libc6-arm64-cross",
)


def commands() -> str:
    """The script of the walk."""
    return "\n".join(line[4:] for line in WALK.splitlines() if line.startswith("    ") or not line) + "\n"


@pytest.fixture(scope="module")
def board(demo: SmallDemo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle`, compiled for the board, where the walk was carried out."""
    folder = tmp_path_factory.mktemp("board")
    options = CompileOptions(threads=1, progress=False, emit=Emit.STATIC)
    compile_bundle(load_exported(demo.folder / "export"), A72, folder / "bundle", options)
    programs = folder / "bin"
    programs.mkdir()
    for name, words in (("tvm-flow", "-m tvm_flow.cli"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE.parent)}
    command = ["sh", "-euxc", commands()]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the golden output, bit for bit\nthe golden frames, bit for bit\n"), done.stdout
    return folder


@needs_board
class TestWalk:
    def test_static_and_shared_programs_make_the_same_frames(self, board: Path) -> None:
        static, shared = (read_frames(board / name) for name in ("frames", "frames_shared"))
        assert static.shape == (8, 32, 32, 3) and static.std() > 1
        np.testing.assert_array_equal(static, shared)

    def test_every_object_is_aligned_for_pages_of_16_kb(self, board: Path) -> None:
        shipped = [path for path in (board / "bundle").rglob("*") if path.is_file()]
        elves = [path for path in shipped if path.read_bytes()[:4] == b"\x7fELF"]
        names = {"group0.so", "decoder.so", SONAME, "check_bundle"}
        assert {path.name for path in elves} == names
        for path in [*elves, board / "static" / "make_video", board / "shared" / "make_video"]:
            aligned = [int(line.split()[-1], 16) for line in load_segments(path)]
            assert aligned and min(aligned) >= 16384 and all(each % 16384 == 0 for each in aligned), path

    def test_the_bundle_is_licensed_and_its_program_can_run(self, board: Path) -> None:
        bundle = board / "bundle"
        assert (bundle / "LICENSE").read_bytes() == (RUNTIME / "LICENSE").read_bytes()
        assert os.access(bundle / "lib" / "T" / "check_bundle", os.X_OK)
        listed = set(verify_bundle(bundle, "aarch64").files)
        assert {"LICENSE", "include/tvm_flow.h", f"lib/T/{SONAME}", "lib/T/check_bundle"} <= listed
        assert SONAME in read_elf(bundle / "lib" / "T" / "check_bundle").needed


def load_segments(path: Path) -> list[str]:
    return [line for line in run("readelf", "-lW", path).splitlines() if line.strip().startswith("LOAD")]


def test_the_walk_ends_in_frames() -> None:
    said = commands()
    assert all(word in said for word in ("embed", "--for-bundle", "-static", SONAME, "qemu-aarch64", "make_video"))
    assert re.search(r"^python3 -m ziglang cc ", said, re.M)


@pytest.mark.parametrize(("built", "linked"), [("gnu.2.34", "musl"), ("musl", "gnu.2.34")])
def test_a_runtime_of_the_other_c_library_does_not_link(tmp_path: Path, built: str, linked: str) -> None:
    source = tmp_path / "app.c"
    source.write_text(
        '#include "tvm_flow_groups.h"\n'
        "const tvm_flow_linked tvm_flow_linked_groups[1];\nconst uint32_t tvm_flow_num_linked_groups = 0;\n"
        "int main(void) { return tvm_flow_close(0); }\n"
    )
    runtime = build_static_runtime(f"x86_64-linux-{built}")
    # Stripped, as zig builds a C library for each way; what links with it is so elsewhere.
    arguments = (f"-I{RUNTIME / 'include'}", "-s", "-o", str(tmp_path / "app"), str(source), str(runtime), "-lm")
    zig_cc(arguments, "app", f"x86_64-linux-{built}")
    with pytest.raises(BuildError, match=rf"undefined symbol: tvm_flow_built_for_{linked.partition('.')[0]}"):
        zig_cc(arguments, "app", f"x86_64-linux-{linked}")


def test_pages_of_16_kb_for_this_machine_too() -> None:
    assert all(int(line.split()[-1], 16) % 16384 == 0 for line in load_segments(build_runtime()))
