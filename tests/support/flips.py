"""Every bit of a bundle's manifest, tables and headers turned, and any number elsewhere: each is refused as a change.

python -m support.flips --elsewhere N     what scripts/damaged_files --flips N runs; prints how many were turned
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from support import toy_bundle, toy_decoder
from support.causes import cause_in_c, cause_in_python
from tvm_flow.causes import Cause
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.weights_file import FIRST_ALIGNMENT
from tvm_flow.scratch import temporary_folder

Flip = tuple[str, int]
"""A file of the bundle, and a bit of it."""
ELF_HEADERS = 64 + 10 * 56
"""Bytes: of the file, and of its segments, which a linker puts behind it; ten are more than a library has."""
OF_THE_DECODER = ("decoder.bin", "decoder_weights.bin", "lib/toy/decoder.so")


def with_header(contents: Contents, path: Path) -> Contents:
    """``contents`` whose weights are a file of the layout that `compile` writes, at ``path``."""
    assert isinstance(contents.weights, bytes)
    store = WeightStore(path, FIRST_ALIGNMENT)
    store.add(np.frombuffer(contents.weights, "<f4"), "values")
    store.finish()
    return replace(contents, weights=path, weights_first=store.first)


def write_whole(folder: Path, contents: Contents) -> Path:
    """A toy bundle in ``folder`` with everything that a bundle has: header of weights, decoder."""
    decoding = toy_decoder.with_decoder(contents, toy_decoder.compile_decoder(folder / "toy.so"))
    write_bundle(folder / "b", with_header(decoding, folder / "weights"))
    return folder / "b"


def headers(bundle: Path) -> dict[str, int]:
    """How many bytes of each file are manifest, table or header, from its beginning."""
    first = int.from_bytes((bundle / "weights.bin").read_bytes()[:8], "little") + 8
    whole = {name: (bundle / name).stat().st_size for name in ("manifest.json", "steps.bin", "decoder.bin")}
    libraries = {path.relative_to(bundle).as_posix(): ELF_HEADERS for path in bundle.glob("lib/toy/*.so")}
    return {**whole, "weights.bin": first, **libraries}


def in_headers(bundle: Path, every: int = 1) -> Iterator[Flip]:
    """All bits of them, or one of ``every``."""
    for name, size in headers(bundle).items():
        yield from ((name, bit) for bit in range(0, 8 * size, every))


def elsewhere(bundle: Path, count: int, seed: int = 1) -> Iterator[Flip]:
    """``count`` random bits of what is no header, every file by its size."""
    draw, begins = random.Random(seed), headers(bundle)
    sizes = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in bundle.rglob("*") if path.is_file()}
    rest = {name: size - begins.get(name, 0) for name, size in sizes.items() if size > begins.get(name, 0)}
    for name in draw.choices(list(rest), list(rest.values()), k=count):
        yield name, 8 * begins.get(name, 0) + draw.randrange(8 * rest[name])


def refusals(bundle: Path, flip: Flip) -> dict[str, tuple[Cause, str]]:
    """What Python says of the bundle with one bit turned, and C of what it reads; the bit is turned back."""
    name, bit = flip
    with (bundle / name).open("r+b", 0) as file:
        before = os.pread(file.fileno(), 1, bit // 8)
        os.pwrite(file.fileno(), bytes([before[0] ^ 1 << bit % 8]), bit // 8)
        try:
            said = {"python": cause_in_python(bundle)}
            if name != "manifest.json":
                said["c"] = cause_in_c(bundle, "tvm_flow_decoder" if name in OF_THE_DECODER else "tvm_flow")
        finally:
            os.pwrite(file.fileno(), before, bit // 8)
    return said


def wrong(bundle: Path, flips: Iterator[Flip]) -> tuple[int, list[str]]:
    """How many were tried, and those that were taken, or refused by another cause than CHANGED."""
    count, found = 0, []
    for flip in flips:
        count += 1
        for reader, (cause, message) in refusals(bundle, flip).items():
            if cause is not Cause.CHANGED:
                found.append(f"{flip}: {reader}: {cause.words}: {message}")
    return count, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elsewhere", type=int, default=100_000, help="random bits of what is no header")
    given = parser.parse_args()
    with temporary_folder("flips") as folder:
        bundle = write_whole(folder, toy_bundle.make_contents(toy_bundle.compile_groups(folder)))
        tables, first = wrong(bundle, in_headers(bundle))
        others, second = wrong(bundle, elsewhere(bundle, given.elsewhere))
    print(json.dumps({"manifest_tables_headers": tables, "elsewhere": others, "wrong": len(first) + len(second)}))
    if first or second:
        raise SystemExit("\n".join((first + second)[:20]))


if __name__ == "__main__":
    main()
