"""Building tvm_flow/runtime/examples as a user does, and reading what make_video writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tvm_flow.pack import read_golden
from tvm_flow.toolchain.runtime_library import RUNTIME

EXAMPLES = RUNTIME / "examples"
STRICT = "-O2 -Wall -Wextra -Werror -Wconversion"


def run(*command: object) -> str:
    """Standard output; the assertion carries both streams of a program that fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_make(folder: Path, bundle: Path, *variables: str) -> Path:
    """``folder`` with the programs."""
    run("make", "-f", EXAMPLES / "Makefile", f"BUNDLE={bundle}", f"OUT={folder}", f"CFLAGS={STRICT}", *variables)
    return folder


def with_cmake(folder: Path, bundle: Path, *variables: str) -> Path:
    """``folder`` with the programs."""
    options = [f"-DBUNDLE={bundle}", f"-DCMAKE_C_FLAGS={STRICT}", *(f"-D{variable}" for variable in variables)]
    run("cmake", "-S", EXAMPLES, "-B", folder, *options)
    run("cmake", "--build", folder)
    return folder


def headers(program: Path) -> str:
    """What readelf says of its segments and dynamic section."""
    return run("readelf", "-ldW", program)


def golden_frames(bundle: Path) -> npt.NDArray[np.int64]:
    """Grey values [frames, height, width] of the first channel of the golden latents, as make_video.c computes them."""
    plane = read_golden(bundle).latents[0]
    return np.clip(np.float32(127.5) + np.float32(42.5) * plane, 0, 255).astype(np.int64)


def read_frames(folder: Path) -> npt.NDArray[np.int64]:
    """The same of what make_video wrote."""
    frames = []
    for path in sorted(folder.glob("frame*.pgm")):
        header, pixels = path.read_bytes().split(b"\n", 1)
        kind, width, height, most = header.split()
        assert (kind, most) == (b"P5", b"255")
        frames.append(np.frombuffer(pixels, np.uint8).reshape(int(height), int(width)))
    return np.stack(frames).astype(np.int64)
