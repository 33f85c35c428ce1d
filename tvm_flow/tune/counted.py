"""How often every block of a kernel's machine code runs in a call: its assembly with a counter put into each block.

    block       instructions from a label, or from behind a branch, to the next one
    count       times that it was entered in one call, on one thread, on this machine or under qemu

A counter touches no flag and no register that it does not restore, so the counted kernel's output is the kernel's own,
and is compared with the reference like any other. Counts do not depend on the machine, nor on what else it does.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_flow.check.kernels import argument_head
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.zig import zig_cc

COUNTS = "flow_counts"
"""Symbol of the counters, uint64 for each block in order."""
TIMEOUT = 120.0
"""Seconds of a counted call: a candidate that takes longer under qemu is not modelled."""
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wno-unused-command-line-argument", "-s", "-static")
_LABEL = re.compile(r"^([.\w$]+):")
_BRANCH = re.compile(r"^(?:j\w+|retq?|ret|br|b(?:\.\w+)?|cbn?z|tbn?z)\b")
_COMMENT = re.compile(r"(?:\s#\s|\s//).*$")
"""AArch64 writes constants with a # too."""
_X86 = """\tleaq\t-128(%rsp), %rsp
\tpushq\t%rax
\tmovq\t{at}(%rip), %rax
\tleaq\t1(%rax), %rax
\tmovq\t%rax, {at}(%rip)
\tpopq\t%rax
\tleaq\t128(%rsp), %rsp"""
_ARM = """\tstp\tx16, x17, [sp, #-16]!
\tadrp\tx16, {at}
\tldr\tx17, [x16, :lo12:{at}]
\tadd\tx17, x17, #1
\tstr\tx17, [x16, :lo12:{at}]
\tldp\tx16, x17, [sp], #16"""
_COUNTERS = {"x86_64": ("", _X86), "aarch64": (".arch armv8.6-a+fp16+dotprod+sve2\n", _ARM)}
"""By architecture: what lets the assembler take every instruction, and a counter."""


@dataclass(frozen=True)
class Block:
    """Instructions of a block, without comments, and the labels before them."""

    labels: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def loops(self) -> bool:
        """It ends by a branch to itself: an innermost loop without branches in it."""
        return self.lines[-1].split()[-1] in self.labels and bool(_BRANCH.match(self.lines[-1]))


def blocks_of(text: str) -> list[tuple[int, Block]]:
    """Blocks of the assembly ``text``, each with the number of its first instruction's line."""
    found: list[tuple[int, Block]] = []
    labels: list[str] = []
    lines: list[str] = []
    start = 0

    def end() -> None:
        if lines:
            found.append((start, Block(tuple(labels), tuple(lines))))
            labels.clear()
            lines.clear()

    for number, raw in enumerate(text.splitlines()):
        line = _COMMENT.sub("", raw).strip()
        if label := _LABEL.match(line):
            if not label[1].startswith(".Ltmp"):  # debug information's own
                end()
                labels.append(label[1])
        elif line and not line.startswith((".", "#", "//")) and raw[:1].isspace():
            start = start if lines else number
            lines.append(line)
            if _BRANCH.match(line):
                end()
    end()
    return found


def with_counters(text: str, blocks: Sequence[tuple[int, Block]], architecture: str) -> str:
    """``text`` with a counter before each block's first instruction; raises BuildError for another architecture."""
    if architecture not in _COUNTERS:
        raise BuildError(f"counters: expected one of {', '.join(_COUNTERS)}, got {architecture}; measure on a board")
    head, counter = _COUNTERS[architecture]
    lines = text.splitlines()
    for position, (number, _) in enumerate(blocks):
        lines[number] = counter.format(at=f"{COUNTS}+{8 * position}") + "\n" + lines[number]
    return head + "\n".join([*lines, f"\t.comm\t{COUNTS},{8 * len(blocks)},64", ""])


def count_blocks(
    text: str,
    args: Sequence[Array],
    target: TargetSpec,
    folder: Path,
    prefix: Sequence[str] = (),
    timeout: float = TIMEOUT,
) -> tuple[list[tuple[Block, int]], Array]:
    """Blocks that ran in a call of ``__tvm_ffi_k`` of the assembly ``text``, with their counts, and the call's output.

    The last of ``args`` is the output; ``prefix`` starts programs of ``target`` where this machine is another. Raises
    BuildError when it cannot be built, fails, or takes longer than ``timeout`` seconds.
    """
    blocks = blocks_of(text)
    (folder / "counted.s").write_text(with_counters(text, blocks, target.architecture))
    inputs = ("-DKERNEL=__tvm_ffi_k", f"-DCOUNTS={len(blocks)}", str(EMULATE / "kernel.c"), str(folder / "counted.s"))
    zig_cc(
        (*_FLAGS, *inputs, "-o", str(folder / "counted"), "-lm"), "counted kernel", f"{target.architecture}-linux-musl"
    )
    request = b"".join([struct.pack("<I", len(args)), *(argument_head(array) + array.tobytes() for array in args)])
    try:
        done = subprocess.run(
            [*prefix, str(folder / "counted")], input=request, capture_output=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"counted kernel: expected an end within {timeout:.3g} s, got none; leave it out") from None
    output, size = args[-1], args[-1].nbytes
    if done.returncode != 0 or len(done.stdout) != size + 8 * len(blocks):
        words = done.stderr.decode(errors="replace").strip()[-300:]
        raise BuildError(f"counted kernel: expected its output, got exit code {done.returncode}: {words}; leave it out")
    counts = np.frombuffer(done.stdout[size:], np.uint64).tolist()
    ran = [(block, count) for (_, block), count in zip(blocks, counts, strict=True)]
    return ran, np.frombuffer(done.stdout[:size], output.dtype).reshape(output.shape)
