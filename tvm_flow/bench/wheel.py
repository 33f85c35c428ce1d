"""onnxruntime's AArch64 wheel, and a system for it to run on under qemu-user.

pip checks the wheel against the pinned hash and it stays in the cache. The wheel holds the whole of onnxruntime as a
plain C library; the C and C++ libraries that it needs are Debian's for cross compilers. qemu-user shows a program the
host's /proc and /sys, where onnxruntime looks for the caches of an ARM core and crashes on x86 ones; files under the
prefix that is given to qemu come first, so they state one core of the emulated kind.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tvm_flow.artifact import write_bytes
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import WORK, beside

VERSION = "1.31.1"
PLATFORM = "manylinux_2_28_aarch64"
SHA256 = "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3"
MEMBER = f"onnxruntime/capi/libonnxruntime.so.{VERSION}"
CACHE = Path("artifacts/cache")
"""Beside what the commands write; git ignores it."""
LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
_NEEDED = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")


def onnxruntime_library(cache: Path = CACHE) -> Path:
    """The wheel's C library for AArch64, from ``cache`` or from the package index.

    Raises ConfigError with pip's message when it cannot be had.
    """
    library = cache / f"onnxruntime-{VERSION}-{PLATFORM}" / Path(MEMBER).name
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with beside(library, WORK) as folder:
            wheel = _download(folder)
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(MEMBER)
            write_bytes(library, content)
    return library.resolve()


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"onnxruntime=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.11", f"--platform={PLATFORM}", "--require-hashes"]
    command += [f"--requirement={wanted}", f"--dest={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ConfigError(
            f"onnxruntime {VERSION} for {PLATFORM}: expected pip to download it, got: "
            f"{' '.join(done.stderr.split())[-500:] or 'no wheel'}; check the network and pip's index"
        )
    return wheels[0]


def write_root(folder: Path, part: int, libraries: Path = LIBRARIES) -> Path:
    """A system of one core of Arm's part number ``part``, for qemu's -L; raises ConfigError without ``libraries``."""
    missing = [name for name in _NEEDED if not (libraries / name).exists()]
    if missing:
        raise ConfigError(
            f"{libraries}: expected AArch64 C and C++ libraries, missing {', '.join(missing)}; "
            "apt-get install libc6-arm64-cross libstdc++6-arm64-cross"
        )
    cpus = folder / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online", "kernel_max"):
        (cpus / name).write_text("0\n")
    (folder / "lib").symlink_to(libraries)
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part:#05x}\nCPU revision\t: 0\n\n"
    )
    return folder
