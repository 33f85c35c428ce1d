"""Building tvm_flow/runtime/examples as a user does, and reading what make_video writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tvm_flow.pack import Prompt, read_golden
from tvm_flow.pack.prompt_file import read_prompt
from tvm_flow.run import Bundle, BundleDecoder
from tvm_flow.sampler import seeded_noise
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


def expected_frames(bundle: Path, prompt: Path, seed: int = 0) -> npt.NDArray[np.uint8]:
    """uint8 [frames, height, width, 3] of what Python makes of the same prompt file and seed."""
    golden, cond = read_golden(bundle), read_prompt(prompt)
    noise = seeded_noise(seed, 0, golden.noise.shape)
    with Bundle.open(bundle, threads=2) as opened:
        latents = opened.generate(noise, cond, Prompt(golden.uncond.tokens, cond.mask), seed=seed)
    with BundleDecoder.open(bundle, threads=2) as decoder:
        return decoder.decode_rgb8(latents)


def read_frames(folder: Path) -> npt.NDArray[np.uint8]:
    """The same of what make_video wrote."""
    frames = []
    for path in sorted(folder.glob("frame*.ppm")):
        header, pixels = path.read_bytes().split(b"\n", 1)
        kind, width, height, most = header.split()
        assert (kind, most) == (b"P6", b"255")
        frames.append(np.frombuffer(pixels, np.uint8).reshape(int(height), int(width), 3))
    return np.stack(frames)
