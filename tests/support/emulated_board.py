"""A board that nobody owns: TVM's RPC server of the aarch64 wheel, under qemu, registered with a real tracker.

`python -m support.emulated_board [TARGET]` checks, benches, tunes, compiles and profiles on it and prints what the
commands say; times mean nothing, all else does. Debian's Python and libraries for arm64 and the wheels are unpacked
into a folder of the cache, which is kept.

No binfmt handler is needed: what the server starts, it starts by sys.executable, which is a shell script here that
names qemu. A forked process is emulated as its parent was. qemu shows the host's /proc/cpuinfo, so the root has one
that says what a kernel would say of the core's auxiliary vector.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

from support import tiny_model
from support.board_farm import KEY, running_farm
from tvm_flow.check.emulator import find_emulator
from tvm_flow.cli import main
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import load_target
from tvm_flow.toolchain.runtime_library import cache_directory

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = (f"python{PYTHON}", "python3-distutils", "libstdc++6", "libgcc-s1", "zlib1g")
WHEELS = ("apache-tvm", "apache-tvm-ffi", "numpy", "ml_dtypes", "psutil", "tornado", "cloudpickle", "typing_extensions")
PINNED = ("apache-tvm", "apache-tvm-ffi")
_APT = """APT::Architecture "arm64"; APT::Architectures {{ "arm64"; }}; APT::Sandbox::User "root";
Dir::State "{0}/state"; Dir::State::status "{0}/status"; Dir::Cache "{0}/cache";
Dir::Etc::sourcelist "{0}/sources.list"; Dir::Etc::sourceparts "-";
"""
_SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {0} main\n"
_CPUINFO = """
import ctypes, os
names = {
    16: "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 "
        "sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg",
    26: "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm",
}
get = ctypes.CDLL(None).getauxval
get.restype, get.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
has = [name for at, text in names.items() for bit, name in enumerate(text.split()) if get(at) >> bit & 1]
for cpu in range(os.cpu_count()):
    print(f"processor\\t: {cpu}\\nFeatures\\t: {' '.join(has)}\\n")
"""


def run(*command: object) -> str:
    """Its output; what it complains of is shown."""
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def make_root(folder: Path) -> Path:
    """``folder`` with Python and TVM for arm64; nothing is done when they are there."""
    root, done = folder / "root", folder / "complete"
    if done.exists():
        return root
    for part in ("state/lists/partial", "cache/archives/partial", "wheels", "root/opt/site", "root/proc"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(_APT.format(folder))
    (folder / "sources.list").write_text(_SOURCE.format(SUITE))
    apt = ("apt-get", "-c", folder / "apt.conf", "-q")
    run(*apt, "update")
    run(*apt, "install", "-y", "--no-install-recommends", "--download-only", *PACKAGES)
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        run("dpkg", "-x", package, root)
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 24, 27, 28)]
    wanted = [f"{name}=={version(name)}" if name in PINNED else name for name in WHEELS]
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms)
    run(*pip, f"--python-version={PYTHON}", "-d", folder / "wheels", *wanted)
    for wheel in (folder / "wheels").glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(root / "opt/site")
    done.touch()
    return root


def make_python(root: Path, target: str) -> Path:
    """A script that is Python on the core of ``target``, for itself too."""
    script, site = root.parent / f"python-{target}", root / "opt/site"
    command = " ".join(find_emulator(load_target(target)).command)
    script.write_text(f'#!/bin/sh\nexec {command} -L {root} -E PYTHONPATH={site} {root}/usr/bin/python{PYTHON} "$@"\n')
    script.chmod(0o755)
    (site / "sitecustomize.py").write_text(f"import sys\nsys.executable = {str(script)!r}\n")
    (root / "proc/cpuinfo").unlink(missing_ok=True)
    (root / "proc/cpuinfo").write_text(run(script, "-c", _CPUINFO))
    return script


def tvm_flow(*words: object) -> None:
    """Show and run a command."""
    print("$ tvm-flow", *words, flush=True)
    code = main([str(word) for word in words])
    sys.stdout.flush()
    if code:
        sys.exit(code)


def exercise(target: str, folder: Path, port: int) -> None:
    """Every command that takes a board, on the tiny model."""
    board, named = f"127.0.0.1:{port}/{KEY}", ("--target", target)
    _, exported = tiny_model.make_export(tiny_model.make_ranges(folder), "w8a8", folder)
    tvm_flow("boards", "list", f"127.0.0.1:{port}")
    tvm_flow("boards", "check", board, *named)
    tvm_flow("boards", "bench", board, *named)
    store = ("--records", folder / "records")
    tune = ("tune", exported.folder, *named, "--board", board, *store, "--threads", 2)
    for only, trials in (("18x32x128", 8), ("18x128x32", 2)):  # eight are enough for a model to order them first
        tvm_flow(*tune, "--only", only, "--trials", trials)
    tvm_flow("records", "list", *store)
    output = folder / "bundle"
    words = ("compile", "--export", exported.folder, *named, "--output", output, *store, "--threads", 2)
    tvm_flow(*words, "--check-on", board)
    tvm_flow("profile", output, "--board", board)


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "raspberry-pi-5"
    python = make_python(make_root(cache_directory() / f"{SUITE}-arm64"), name)
    with temporary_folder("board") as work, running_farm(str(python)) as farm:
        exercise(name, work, farm.port)
