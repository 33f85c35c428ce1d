"""A processor with AVX-512 and VNNI for static programs, on any machine: Bochs, which is slow and no model of time.

`python -m support.emulated_x86 PROGRAM ARGUMENTS...` runs PROGRAM as qemu's user emulation would: its two streams and
its exit code are the program's. Folders and files among the arguments are there for it to read; so is stdin with
`--stdin`. Debian: apt-get install bochs bochs-term isolinux syslinux-common genisoimage.

No Linux is booted: `bare_x86/kernel.c` is all that such a program asks for, and it starts in a second.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder

BARE = Path(__file__).parent / "bare_x86"
BOOT = (Path("/usr/lib/ISOLINUX/isolinux.bin"),)
MODULES = tuple(Path("/usr/lib/syslinux/modules/bios") / name for name in ("ldlinux.c32", "mboot.c32", "libcom32.c32"))
MARK = b"\n<machine>"
_MENU = "DEFAULT x\nPROMPT 0\nLABEL x\n KERNEL mboot.c32\n APPEND /kernel --- /module\n"
_MACHINE = """cpu: model=corei7_icelake_u, count=1, ips=4000000, reset_on_triple_fault=0
memory: guest=256, host=256
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={0}/boot.iso, status=inserted
boot: cdrom
port_e9_hack: enabled=1
display_library: rfb, options="timeout=0"
plugin_ctrl: sb16=0, es1370=0, voodoo=0
sound: driver=dummy
clock: sync=none
log: {0}/log
panic: action=fatal
error: action=report
info: action=ignore
"""


def missing() -> str:
    """What has to be installed, or nothing."""
    found = shutil.which("bochs-bin") and shutil.which("genisoimage") and shutil.which("gcc")
    if found and all(path.is_file() for path in (*BOOT, *MODULES)):
        return ""
    return "apt-get install bochs bochs-term isolinux syslinux-common genisoimage gcc"


def run(*command: object) -> None:
    """Raises BuildError with the words of a command that fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{command[0]}: expected exit code 0, got {done.returncode}: {done.stderr.strip()[-2000:]}")


def make_kernel(output: Path) -> None:
    """The flat image of `bare_x86`."""
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-ffreestanding", "-fno-pic")
    bare = ("-fno-stack-protector", "-mgeneral-regs-only", "-mno-red-zone", "-nostdlib", "-static", "-no-pie")
    linked = output.with_suffix(".elf")
    run("gcc", *flags, *bare, "-Wl,--build-id=none", "-T", BARE / "layout.ld", "-o", linked, *BARE.glob("*.[Sc]"))
    run("objcopy", "-O", "binary", linked, output)


def module_of(program: Path, arguments: list[str], stdin: bytes) -> bytes:
    """The table of files that kernel.c reads, and the files, each at a page."""
    words = b"".join(os.fsencode(word) + b"\0" for word in (str(program), *arguments))
    files = {"<program>": program.read_bytes(), "<arguments>": words, "<stdin>": stdin}
    for path in map(Path, arguments):
        found = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
        files |= {str(file): file.read_bytes() for file in found if file.is_file()}
    at = _page(8 + 256 * len(files))
    table, contents = struct.pack("<Q", len(files)), b""
    for name, data in files.items():
        table += struct.pack("<240sQQ", name.encode(), len(data), at + len(contents))
        contents += data + bytes(_page(len(data)) - len(data))
    return table + bytes(at - len(table)) + contents


def _page(size: int) -> int:
    return -(-size // 4096) * 4096


def make_disk(folder: Path, module: bytes) -> None:
    """``folder``/boot.iso."""
    root = folder / "disk"
    (root / "isolinux").mkdir(parents=True)
    for path in (*BOOT, *MODULES):
        shutil.copy(path, root / "isolinux")
    (root / "isolinux" / "isolinux.cfg").write_text(_MENU)
    make_kernel(root / "kernel")
    (root / "kernel.elf").unlink()
    (root / "module").write_bytes(module)
    boot = ("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", 4)
    run("genisoimage", "-quiet", "-o", folder / "boot.iso", *boot, "-boot-info-table", root)


def records(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """(stream, bytes) of each write since the program's start; breaks off when the machine does."""
    seen = b""
    while not seen.endswith(MARK):
        byte = stream.read(1)
        if not byte:
            return
        seen = (seen + byte)[-len(MARK) :]
    while len(head := stream.read(5)) == 5:
        number, size = struct.unpack("<BI", head)
        yield number, stream.read(size)


def emulate(program: Path, arguments: list[str], stdin: bytes = b"") -> Iterator[tuple[int, bytes]]:
    """As `records`, of ``program``; the last is 255 and its exit code. Raises BuildError when there was none."""
    with temporary_folder("bochs") as folder:
        make_disk(folder, module_of(program, arguments, stdin))
        (folder / "bochsrc").write_text(_MACHINE.format(folder))
        (folder / "continue").write_text("c\n")  # Debian's is the debugger, which waits for a word
        command = ("bochs-bin", "-q", "-f", folder / "bochsrc", "-rc", folder / "continue")
        quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, stdout=subprocess.PIPE, **quiet) as process:  # type: ignore[call-overload]
            try:
                for number, data in records(process.stdout):
                    yield number, data
                    if number == 255:
                        return
            finally:
                process.kill()
        said = (folder / "log").read_text(errors="replace")[-2000:] if (folder / "log").is_file() else "nothing"
        raise BuildError(f"Bochs: expected {program.name} to leave, got the end of its stream; Bochs said {said}")


def main(words: list[str]) -> int:
    """Relay the streams."""
    stdin = b""
    if words[0] == "--stdin":
        words, stdin = words[1:], sys.stdin.buffer.read()
    for number, data in emulate(Path(words[0]), words[1:], stdin):
        if number == 255:
            return int(data[0])
        stream = (sys.stdout if number == 1 else sys.stderr).buffer
        stream.write(data)
        stream.flush()
    raise AssertionError


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BuildError as error:
        sys.exit(str(error))
