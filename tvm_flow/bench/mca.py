"""The inner loop of a compiled kernel, and its cycles by llvm-mca: LLVM's own model of a core, without the caches.

    share = products in the loop / (cycles per pass * products per cycle at the core's peak)

The loop is the shortest one of the assembly that holds the instruction, from its label to its branch. llvm-mca repeats
it 100 times with every load a hit; what it leaves out is the cache, so a share is an upper bound on a real core's,
where LLVM describes that core as it is: `tvm_flow.bench.x86` knows of one that it does not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.errors import ConfigError

PASSES = 100


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions, and how many of them are ``mnemonic``."""

    mnemonic: str
    lines: tuple[str, ...]

    @property
    def products(self) -> int:
        """How many of the instructions multiply."""
        return sum(line.split()[0] == self.mnemonic for line in self.lines)


def inner_loop(assembly: str, mnemonic: str) -> Loop:
    """The shortest loop that holds ``mnemonic``; raises ConfigError when there is none."""
    lines = [line.strip() for line in assembly.splitlines()]
    labels = {line[:-1]: number for number, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    found: list[tuple[str, ...]] = []
    for number, line in enumerate(lines):
        branch = re.match(r"(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,.*,|j\w+)\s*(\.L\w+)$", line)
        start = labels.get(branch.group(1), number) if branch else number
        body = tuple(text for text in lines[start : number + 1] if text and not text.startswith((".", "//", "#")))
        if any(text.split()[0] == mnemonic for text in body) and start < number:
            found.append(body)
    if not found:
        raise ConfigError(
            f"assembly: expected a loop with {mnemonic}, got none; is it compiled for a core that has it?"
        )
    return Loop(mnemonic, min(found, key=len))


def find_llvm_mca() -> tuple[str, str]:
    """Path and version of the newest llvm-mca on PATH; raises ConfigError when there is none."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    names = {file.name for folder in folders if folder.is_dir() for file in folder.glob("llvm-mca*")}
    found = []
    for path in filter(None, map(shutil.which, sorted(names))):
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"version (\d+)\.(\d+)\.(\d+)", text):
            found.append((tuple(int(part) for part in version.groups()), path))
    if not found:
        raise ConfigError(
            "llvm-mca: expected it on PATH, found none; install LLVM 19 (Debian: apt-get install llvm-19)"
        )
    version_numbers, path = max(found)
    return path, ".".join(str(part) for part in version_numbers)


def cycles_per_pass(loop: Loop, cpu: str, mca: str) -> float:
    """Cycles of one pass through ``loop`` on LLVM's ``cpu``; raises ConfigError with llvm-mca's message."""
    command = [mca, "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm", f"-iterations={PASSES}"]
    done = subprocess.run(command, input="\n".join(loop.lines) + "\n", capture_output=True, text=True, check=False)
    cycles = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if cycles is None:
        raise ConfigError(f"llvm-mca for {cpu}: expected a count of cycles, got: {done.stderr.strip()[:500]}")
    return int(cycles.group(1)) / PASSES
