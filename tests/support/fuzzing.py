"""Fuzz targets of all that C reads of a bundle: built, run, counted. scripts/fuzz and a bounded run in the tests.

Each C file of tests/fuzz but the driver is a target, with libFuzzer's interface; the driver mutates inputs of the
corpus, guided by gcc's coverage, under the address and undefined-behaviour sanitizers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.attack_programs import ENVIRONMENT
from tvm_flow.scratch import temporary_folder
from tvm_flow.toolchain.runtime_library import RUNTIME

FOLDER = Path(__file__).parents[1] / "fuzz"
CORPUS = FOLDER / "corpus"
SIGNATURE = RUNTIME / "signature"
VULKAN, NPU = (RUNTIME.parent / "backends" / name for name in ("vulkan/runtime", "npu/arm/runtime"))
TARGETS = tuple(sorted(path.stem for path in FOLDER.glob("*.c") if path.stem != "driver"))
DIGESTED = ("index", "decoder", "prompt")
"""Their files end in a digest, so every flipped bit is refused."""
_LINKED = {"payload": ("vulkan",), "cache": ("vulkan",), "vgf": ("vgf",), "signature": ("signature",)}
_PARTS = {
    "vulkan": sorted(VULKAN.glob("*.c")),
    "vgf": [NPU / "vgf.c"],
    "signature": sorted(SIGNATURE.glob("*.c")),
}
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-ffp-contract=off", "-fno-sanitize-recover=all")
_SANITIZERS, _COVERAGE = "-fsanitize=address,undefined", "-fsanitize-coverage=trace-pc,trace-cmp"
_INCLUDES = tuple(f"-I{folder}" for folder in (RUNTIME / "include", RUNTIME / "src", SIGNATURE, VULKAN, NPU))


@dataclass(frozen=True)
class Fuzzed:
    """What became of a target: inputs that were run, and the words of a crash, whose input lies at ``last``."""

    inputs: int
    crash: str | None
    last: Path


def _gcc(output: Path, *arguments: str | Path) -> Path:
    command = [
        "gcc",
        *_FLAGS,
        _SANITIZERS,
        *_INCLUDES,
        *map(str, arguments),
        "-o",
        str(output),
        "-lm",
        "-lpthread",
        "-ldl",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def _object(folder: Path, name: str, sources: list[Path], *flags: str) -> Path:
    path = folder / f"{name}.o"
    return path if path.exists() else _gcc(path, *sources, "-r", "-nostdlib", *flags)


def build(folder: Path, target: str, source: Path | None = None) -> Path:
    """The program of ``target``, of its own ``source``; what targets share is compiled once a ``folder``.

    Hashes hold no branches to find, so they are left out of the coverage.
    """
    if (folder / target).exists():
        return folder / target
    sources = sorted((RUNTIME / "src").glob("*.c"))
    hash_source = RUNTIME / "src" / "sha256.c"
    objects = [
        _object(folder, "driver", [FOLDER / "driver.c"]),
        _object(folder, "sha256", [hash_source], "-O2", "-fno-sanitize=all"),
        _object(folder, "runtime", [path for path in sources if path != hash_source], _COVERAGE),
    ]
    for part in _LINKED.get(target, ()):
        objects.append(_object(folder, part, _PARTS[part], _COVERAGE))
    if target == "signature":  # nothing to find in arithmetic that takes no branch of the input
        curve = [SIGNATURE / "monocypher" / "monocypher.c"]
        objects.append(_object(folder, "monocypher", curve, "-O2", "-fno-sanitize=all"))
    return _gcc(folder / target, source or FOLDER / f"{target}.c", f"-I{FOLDER}", *objects, _COVERAGE)


def corpus(target: str) -> list[Path]:
    """Inputs to begin with, besides the target's own."""
    return sorted((CORPUS / target).glob("*")) if (CORPUS / target).is_dir() else []


def fuzz(program: Path, inputs: int, seed: int, keep: Path | None = None) -> Fuzzed:
    """Run ``inputs`` mutated inputs; the same for the same ``seed``. Those that reach something new go to ``keep``."""
    last = program.with_suffix(".last")
    command = [str(program), "--inputs", str(inputs), "--seed", str(seed), "--last", str(last)]
    command += ["--keep", str(keep)] if keep else []
    command += map(str, corpus(program.name))
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    crash = None if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr[-4000:]}"
    return Fuzzed(int(done.stdout.split()[0]) if done.stdout else 0, crash, last)


def crashing_input(last: Path) -> bytes:
    """Of the driver's file: eight bytes of length, then the input."""
    data = last.read_bytes()
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def flips(program: Path) -> int:
    """Every flipped bit of every file of the corpus that was made whole; each is refused, or this fails."""
    files = [str(path) for path in corpus(program.name) if not path.name.startswith("found")]
    done = subprocess.run(
        [str(program), "--flips", *files], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return int(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    """``scripts/fuzz``: a line of JSON; 1 where a target crashed, whose input lies in the working folder then."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="of each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another one tries other inputs (default: %(default)s)")
    parser.add_argument(
        "--targets", nargs="+", choices=TARGETS, default=TARGETS, metavar="TARGET", help=" ".join(TARGETS)
    )
    parser.add_argument("--keep", type=Path, help="a folder for inputs that reach what none did before")
    options = parser.parse_args(arguments)
    counts: dict[str, int] = {}
    crashes = 0
    with temporary_folder("fuzz") as folder:
        for target in options.targets:
            keep = options.keep / target if options.keep else None
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
            done = fuzz(build(folder, target), options.inputs, options.seed, keep)
            counts[target] = done.inputs
            if done.crash:
                crashes += 1
                left = Path(f"crash-{target}")
                left.write_bytes(crashing_input(done.last))
                print(f"{target}: {done.crash}\nits input: {left}", file=sys.stderr)
    print(json.dumps({"targets": counts, "crashes": crashes}))
    return int(crashes > 0)


if __name__ == "__main__":
    if shutil.which("gcc") is None:
        sys.exit("scripts/fuzz: expected gcc, got none; apt-get install gcc")
    sys.exit(main())
