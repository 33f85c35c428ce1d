"""``scripts/bench gemm``: GMAC/s of int8 products on one core of this machine, for STDiT's linear layers.

All contenders multiply the same random codes (all of int8, -128 included), one after another, ``rounds`` times over
or more; each one's time is its fastest round. Within a run they see the same clock and the same neighbours; figures of
two runs are not comparable.

    gmacs = M * K * N / seconds / 1e9
    max_err = max |result - exact| over up to 256 rows, evenly spaced; exact: a float64 product, all sums below 2^53

The line on stdout is the worst shape's: that of the smallest ours / fastest peer. ``onnxruntime_max_err`` is the larger
of its u8s8 and s8s8 errors; ``torch_int8_gmacs`` is the faster of torch._int_mm and the quantized x86 engine;
``peak_gmacs`` is the best of the whole run. onnxruntime's s8s8 is many times slower, so it gets 256 rows only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.bench.peers import Array, Contender, onnxruntime_product, ours, torch_linear, torch_product
from tvm_flow.bench.shapes import Shape, parse_shapes
from tvm_flow.profile.peak import peak_meter
from tvm_flow.target.spec import detect_host

CHECKED_ROWS = 256
LEAST_MACS, MOST_ROUNDS = 30_000_000_000, 20
"""Small products run more often, up to so many multiplications or rounds: a neighbour's burst must not decide."""


@dataclass(frozen=True)
class Measured:
    """GMAC/s by contender, of the instruction itself, and the largest errors of those that give int32."""

    shape: Shape
    gmacs: dict[str, float]
    errors: dict[str, int]
    peak: float

    def peers(self) -> dict[str, float]:
        """GMAC/s of everyone else."""
        return {name: value for name, value in self.gmacs.items() if name != "ours"}

    def ratio(self) -> float:
        """Our speed over the fastest peer's."""
        return self.gmacs["ours"] / max(self.peers().values())

    def line(self) -> dict[str, object]:
        """The JSON object; null for a peer that is not installed."""
        errors = [error for name, error in self.errors.items() if name.startswith("onnxruntime")]
        torch_speeds = [speed for name, speed in self.gmacs.items() if name.startswith("torch")]
        return {
            "shape": str(self.shape),
            "ours_gmacs": self.gmacs["ours"],
            "ours_max_err": self.errors["ours"],
            "peak_gmacs": self.peak,
            "onnxruntime_u8s8_gmacs": self.gmacs.get("onnxruntime_u8s8"),
            "onnxruntime_max_err": max(errors, default=None),
            "torch_int8_gmacs": max(torch_speeds),
        }


def measure(shape: Shape, rounds: int, peak: Callable[[], float]) -> Measured:
    """Run every contender at least ``rounds`` times on ``shape``, interleaved."""
    rng = np.random.default_rng(shape.macs)
    x, w = (rng.integers(-128, 128, size, np.int8) for size in ((shape.m, shape.k), (shape.k, shape.n)))
    isa = choose_isa(detect_host().features)
    found = [
        *(ours(x, w, isa), onnxruntime_product(x, w, signed=False)),
        *(onnxruntime_product(x[:CHECKED_ROWS], w, signed=True), torch_product(x, w)),
        torch_linear(x, w),
    ]
    contenders = [contender for contender in found if contender is not None]
    errors = {c.name: _max_error(c, x[: c.rows], w) for c in contenders if c.result is not None}  # also the warm-up
    peaks: list[float] = []
    seconds = {c.name: float("inf") for c in contenders}
    for _ in range(max(rounds, min(MOST_ROUNDS, LEAST_MACS // shape.macs))):
        peaks.append(peak())
        for contender in contenders:
            start = time.perf_counter()
            contender.run()
            seconds[contender.name] = min(seconds[contender.name], time.perf_counter() - start)
    gmacs = {c.name: round(c.rows * shape.k * shape.n / seconds[c.name] / 1e9, 1) for c in contenders}
    return Measured(shape, gmacs, errors, round(max(peaks), 1))


def _max_error(contender: Contender, x: Array, w: Array) -> int:
    assert contender.result is not None
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), CHECKED_ROWS)).astype(int))
    exact = x[rows].astype(np.float64) @ w.astype(np.float64)
    return int(np.max(np.abs(contender.result()[rows] - exact)))


def main(arguments: list[str]) -> None:
    """Parse, measure every shape, print the worst."""
    parser = argparse.ArgumentParser(prog="bench gemm", description="GMAC/s of int8 products on this core")
    parser.add_argument("--shape", action="append", default=[], metavar="M,K,N", help="instead of all of STDiT's")
    parser.add_argument("--rounds", type=int, default=3, help="least times each contender runs (default: 3)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    isa = choose_isa(detect_host().features)
    peak = peak_meter(isa)
    print(f"{isa.name}, one thread, fastest of at least {options.rounds} interleaved rounds, GMAC/s", file=sys.stderr)
    results = []
    for shape in parse_shapes(options.shape):
        results.append(measure(shape, max(options.rounds, 1), peak))
        text = " ".join(f"{name} {speed:.1f}" for name, speed in results[-1].gmacs.items())
        text = f"{text} | peak {results[-1].peak:.1f} | ratio {results[-1].ratio():.2f}"
        print(f"{shape!s:>15}: {text} | errors {results[-1].errors}", file=sys.stderr)
    peak_gmacs = max(result.peak for result in results)
    print(json.dumps(min(results, key=Measured.ratio).line() | {"peak_gmacs": peak_gmacs}))
