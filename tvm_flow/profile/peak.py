"""The most multiplications per second that an instruction of this core can make: int8, int16 or float.

A C program of twelve independent chains of the instruction, in registers only, runs for about 20 ms; its rate is

    GMAC/s = products per instruction * 12 * iterations / seconds / 1e9

Seconds are the thread's own on the processor: a neighbour's turn on the core is no property of the instruction.

The instruction that does not add to its accumulator itself (vpmaddwd) is followed by the addition that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CDLL, c_double
from dataclasses import dataclass

from tvm_flow.backends.cpu import Isa
from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder
from tvm_flow.toolchain.zig import zig_cc

CHAINS = 12


@dataclass(frozen=True)
class Instruction:
    """``code`` works on accumulator {0} of register class ``register``; it makes ``macs`` products."""

    register: str
    macs: int
    code: str


_PAIRS = "vpmaddwd %%{r}0, %%{r}1, %%{r}15; vpaddd %%{r}15, %%{r}{i}, %%{r}{i};"
INSTRUCTIONS = {
    "avx512vnni": Instruction("zmm", 64, "vpdpbusd %%{r}0, %%{r}1, %%{r}{i};"),
    "avxvnni": Instruction("ymm", 32, "%{{vex%}} vpdpbusd %%{r}0, %%{r}1, %%{r}{i};"),
    "avx512bw": Instruction("zmm", 32, _PAIRS),
    "avx2": Instruction("ymm", 16, _PAIRS),
    "sse2": Instruction("xmm", 8, _PAIRS),
    "fma": Instruction("ymm", 8, "vfmadd231ps %%{r}0, %%{r}1, %%{r}{i};"),
    "avx512f": Instruction("zmm", 16, "vfmadd231ps %%{r}0, %%{r}1, %%{r}{i};"),
}
FLOAT = ("avx512f", "fma")
"""Those that multiply floats, the widest first."""
_SOURCE = """#include <time.h>
static double now(void) {{
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}}
double rate(void) {{
  double start = now();
  long n = 4000000;
  __asm__ volatile("1: {body} dec %0; jnz 1b" : "+r"(n) : : "cc", {clobbers});
  return {macs}.0 * {chains} * 4000000 / (now() - start) / 1e9;
}}
"""


def peak_meter(isa: Isa) -> Callable[[], float]:
    """A function that measures GMAC/s of the instruction of ``isa``; raises BuildError when it is not known."""
    return instruction_meter(isa.name)


def instruction_meter(name: str) -> Callable[[], float]:
    """A function that measures GMAC/s of the instruction ``name``; raises BuildError when it is not known."""
    if name not in INSTRUCTIONS:
        raise BuildError(f"peak of {name}: expected one of {', '.join(INSTRUCTIONS)}; this machine has none of them")
    instruction = INSTRUCTIONS[name]
    code = "".join(instruction.code.format(r=instruction.register, i=2 + chain) for chain in range(CHAINS))
    clobbers = ", ".join(f'"xmm{i}"' for i in range(16))
    source = _SOURCE.format(body=code, clobbers=clobbers, macs=instruction.macs, chains=CHAINS)
    with temporary_folder("peak") as folder:
        library = folder / "peak.so"
        arguments = ("-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library))
        zig_cc(arguments, f"peak of {name}", "native", source=source)
        rate = CDLL(str(library)).rate
    rate.restype = c_double
    return lambda: float(rate())
