"""Cycles that a product's loads wait for caches: what llvm-mca, to which every load is a hit, leaves out.

A group of tiles meets its blocks of weights one after the other (`tvm_flow.backends.cpu.gemm`). What is read again is
read from a cache of S bytes when what is read between two times fits into it:

    weights     a strip of neighbouring blocks + a tile's rows <= S: once for each group, else once for each tile
                all weights + a group's rows <= S: once
    rows        a group's rows + a strip <= S: once for each part, else once for each strip
    cycles      lines that miss the first cache * NEAR + lines that miss the second * FAR

NEAR and FAR are what a line takes at a core's bandwidth, for prefetchers follow all of these: 64 bytes at 32 and at 8
bytes a cycle, assumed for all cores. Caches that a target file does not state are taken as `USUAL`.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm_flow.backends.cpu.choices import ProductChoice
from tvm_flow.backends.cpu.isa import Sums
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.target.board import Board

LINE, NEAR, FAR = 64, 2.0, 8.0
USUAL = (32, 512)
"""KiB of the first and the second cache."""


def cache_cycles(product: Product, choice: ProductChoice, board: Board) -> float:
    """Of a call of ``product`` as ``choice`` has it on one core of ``board``."""
    return waiting(lambda size: bytes_missed(product, choice, size), board)


def waiting(missed: Callable[[int], float], board: Board) -> float:
    """Cycles on one core of ``board`` for the bytes that are ``missed`` in a cache of so many."""
    sizes = (board.l1d_kib or USUAL[0], board.l2_kib or USUAL[1])
    lines = [missed(1024 * size) / LINE for size in sizes]
    return lines[0] * NEAR + lines[1] * FAR


def bytes_missed(product: Product, choice: ProductChoice, size: int) -> float:
    """Of weights and rows, that do not come from a cache of ``size`` bytes; see the module."""
    m, k, n, columns = product.m, product.k, product.n, product.isa.columns
    code = 2 if product.isa.sums is Sums.WIDENED else 1
    tile, strip = choice.rows * k * code, choice.blocks * columns * k
    group, groups = choice.tiles * tile, m // (choice.rows * choice.tiles)
    weights = k * n
    often = groups if strip + tile <= size else groups * choice.tiles
    read = 1 if weights + group <= size else often
    strips = max(n // (columns * choice.blocks), 1)
    widened = choice.parts if group + strip <= size else strips
    return float(weights * read + m * k * code * widened)
