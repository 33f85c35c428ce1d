"""Cycles of blocks of machine code by llvm-mca, LLVM's own model of a core; every load is a hit in its first cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.errors import BuildError
from tvm_flow.target.spec import TargetSpec

PASSES = 100
"""Of each block, one after the other: what two passes have in common, a real core runs at once too."""
_REGION = re.compile(r"^\[\d+\] Code Region - b(\d+)")
_CYCLES = re.compile(r"^Total Cycles:\s+(\d+)")


def find_mca() -> str:
    """The newest llvm-mca on PATH; raises BuildError when there is none."""
    names = {path.name for folder in os.get_exec_path() for path in Path(folder).glob("llvm-mca*")}
    numbered = sorted(names, key=lambda name: int("".join(filter(str.isdigit, name)) or 0))
    found = shutil.which(numbered[-1]) if numbered else None
    if found is None:
        raise BuildError("llvm-mca: expected it on PATH, got none; install LLVM (Debian: apt-get install llvm-19)")
    return found


def block_cycles(blocks: Sequence[Sequence[str]], target: TargetSpec, mca: str) -> list[float]:
    """Of a pass through each of ``blocks``, lines of assembly; raises BuildError with llvm-mca's words."""
    source = [
        line
        for number, block in enumerate(blocks)
        for line in (f"# LLVM-MCA-BEGIN b{number}", *block, "# LLVM-MCA-END")
    ]
    attributes = ",".join(f"+{name}" for name in sorted(target.features))
    command = [mca, f"-mtriple={target.triple}", f"-mcpu={target.cpu}", f"-mattr={attributes}"]
    quiet = (f"-iterations={PASSES}", "-instruction-info=false", "-resource-pressure=false")
    text = "\n".join(source) + "\n"
    done = subprocess.run([*command, *quiet], input=text, capture_output=True, text=True, check=False)
    found: dict[int, float] = {}
    region = -1
    for line in done.stdout.splitlines():
        if begun := _REGION.match(line):
            region = int(begun[1])
        elif total := _CYCLES.match(line):
            found[region] = int(total[1]) / PASSES
    if len(found) != len(blocks):
        words = done.stderr.strip()[:300]
        raise BuildError(f"llvm-mca for {target.cpu}: expected cycles of {len(blocks)} blocks, got: {words}")
    return [found[number] for number in range(len(blocks))]
