"""Cycles of a candidate's inner loop by llvm-mca, LLVM's own model of a core: an order for a board that is not there.

    cycles per product = cycles of a pass / (products in the loop)         a product: one multiplying instruction

The loop is the innermost one with the most multiplying instructions. Every load is a hit in the model: what differs
between candidates only by caches (tiles, blocks, parts) is equal to it, and keeps the order of the space. So it says
which rows suit the registers and pipes of a core, and nothing else; a modelled order is no measurement and never wins.

Its rank correlation with measured times is about 0: 0.17, -0.30 and -0.20 over 16, 8 and 6 candidates of three products
of the demo, one thread of a busy Zen 4 with AVX2. What a search tries has mostly the default's four rows, where the
model's values lie within 6 % of each other and their order is chance, while times differ by what it does not know, as
whether there is a parallel loop at all (0.91 to 1.03), and by the noise of a race (1.03 and 1.74 for neighbours). Over
rows its order is right and its distances are not: for 128x96x384 four, two and one row are 0.92, 1.22 and 1.85 cycles a
product by the model, 3.1, 3.3 and 3.8 instructions of the loop, and 1.02, 1.02 and 2.0 of the default's time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tvm_flow.check.kernels import assembly
from tvm_flow.errors import BuildError
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.workloads import scheduled

PASSES = 100
MULTIPLY = re.compile(r"^(vpmaddwd|pmaddwd|vpdpbusd|sdot|smmla|smull2?|smlal2?|vfmadd\w+|fmla|mla)\b")
_BRANCH = re.compile(r"^(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s*(\.L\w+)$")
_COMMENT = re.compile(r"(?:\s#\s|//).*$")
"""AArch64 writes constants with a # too."""
_LABEL = re.compile(r"^(\.L\w+):")


def modelled_order(kernel: TunedKernel, candidates: Sequence[str], target: TargetSpec) -> list[tuple[float, str]]:
    """``candidates`` with their cycles per product, fewest first, those that are equal as they came.

    Raises BuildError when no llvm-mca is installed or it does not know the core.
    """
    mca = find_mca()
    make = partial(_cycles, kernel, target, mca)
    return sorted(((make(each), each) for each in candidates), key=lambda pair: pair[0])


def inner_loop(text: str) -> list[str]:
    """Instructions of the innermost loop with the most multiplying ones; empty when there is none."""
    lines = [_COMMENT.sub("", line).strip() for line in text.splitlines()]
    labels = {found[1]: number for number, line in enumerate(lines) if (found := _LABEL.match(line))}
    loops = []
    for number, line in enumerate(lines):
        branch = _BRANCH.match(line)
        if branch and labels.get(branch[1], number) < number:
            loops.append((labels[branch[1]], number))
    innermost = [(a, b) for a, b in loops if not any(a < c and d < b for c, d in loops if (c, d) != (a, b))]
    bodies = [[t for t in lines[a : b + 1] if t and not t.startswith(".")] for a, b in innermost]
    return max(bodies, key=products_in, default=[])


def products_in(body: Sequence[str]) -> int:
    """How many of its instructions multiply."""
    return sum(bool(MULTIPLY.match(line)) for line in body)


def find_mca() -> str:
    """The newest llvm-mca on PATH; raises BuildError when there is none."""
    names = {path.name for folder in os.get_exec_path() for path in Path(folder).glob("llvm-mca*")}
    numbered = sorted(names, key=lambda name: int("".join(filter(str.isdigit, name)) or 0))
    found = shutil.which(numbered[-1]) if numbered else None
    if found is None:
        raise BuildError("llvm-mca: expected it on PATH, got none; install LLVM (Debian: apt-get install llvm-19)")
    return found


def rank_correlation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Spearman's, over the keys that both have; ties get their mean rank; 0 where either has no order."""
    keys = sorted(one.keys() & other.keys())
    a, b = _ranks([one[key] for key in keys]), _ranks([other[key] for key in keys])
    n = len(keys)
    if n < 2:
        return 0.0
    middle = (n + 1) / 2
    above = sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True))
    below = (sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b)) ** 0.5
    return above / below if below else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    return [(sum(v < value for v in values) + sum(v <= value for v in values) + 1) / 2 for value in values]


def _cycles(kernel: TunedKernel, target: TargetSpec, mca: str, candidate: str) -> float:
    function = scheduled(kernel.packed, kernel.kernel, candidate).with_attr("global_symbol", "k")
    body = inner_loop(assembly("k", function, target))
    if not body:
        return float("inf")
    attributes = ",".join(f"+{name}" for name in sorted(target.features))
    command = [mca, f"-mtriple={target.triple}", f"-mcpu={target.cpu}", f"-mattr={attributes}", f"-iterations={PASSES}"]
    done = subprocess.run(command, input="\n".join(body) + "\n", capture_output=True, text=True, check=False)
    cycles = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if cycles is None:
        raise BuildError(f"llvm-mca for {target.cpu}: expected a count of cycles, got: {done.stderr.strip()[:300]}")
    return int(cycles[1]) / PASSES / products_in(body)
