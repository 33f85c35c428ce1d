"""Step groups as part of a program: what ``compile --emit static`` adds to a bundle, for systems without dlopen.

    lib/<target>/libtvm_flow_groups.a     kernels and plans of all groups, and the table of `tvm_flow_groups.h`
    lib/<target>/gnu/libtvm_flow.a        the runtime without dlopen, for programs that use glibc
    lib/<target>/musl/libtvm_flow.a       the same for musl

    cc app.c -Iinclude -Llib/T -Llib/T/musl -ltvm_flow_groups -ltvm_flow -lm -lpthread -static

The groups need no C library beyond memcpy and memset, so one archive serves both. Those of the runtime refuse a program
of the other C library when it is linked (tvm_flow_libc.h). Headers lie in every bundle.

The shared libraries stay beside the archives: Python runs and checks a bundle through them, and nothing on the board
does. A program reads steps.bin and weights.bin, and golden.bin when it verifies or takes the null caption; the other
files need not be on the board. Every file is listed in the manifest with its hash, and ``static`` there names those
above and the headers.

A static program refuses a bundle of another build: the table holds the sha256 of the shared library that was linked
from the same kernels and plan, and steps.bin holds it too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tvm_flow.artifact import atomic_path, make_executable, sha256_file
from tvm_flow.compile.board_files import INCLUDE, header_files
from tvm_flow.compile.library import plan_source
from tvm_flow.errors import BuildError
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.plan.emit import emit_linked
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.runtime_library import RUNTIME, build_static_runtime
from tvm_flow.toolchain.zig import PAGES, archive, zig_cc

GROUPS_ARCHIVE, RUNTIME_ARCHIVE = "libtvm_flow_groups.a", "libtvm_flow.a"
# Headers of before 2.33 name functions that later static libraries lack (__fxstat), those of 2.38 the other way round.
_LIBCS = {"gnu": "linux-gnu.2.34", "musl": "linux-musl"}
_WARNINGS = ("-Wall", "-Wextra", "-Werror")
_GROUP_FLAGS = ("-std=c11", "-O2", "-fPIC", "-g0", *_WARNINGS, f"-I{INCLUDE}", "-r", "-Wl,-S", "-DTVM_FLOW_ANY_LIBC")
_PROGRAM_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", *_WARNINGS, "-s", "-DSTATIC_GROUPS", PAGES, f"-I{INCLUDE}")


def static_files(libraries: Sequence[GroupLibrary], target: TargetSpec, folder: Path) -> dict[str, Path]:
    """The files of the module's table by their paths in a bundle, made in ``folder``.

    zig builds its C library for an architecture once, which takes a minute. Raises BuildError with the compiler's own
    message.
    """
    lib, groups = f"lib/{target.name}", folder / GROUPS_ARCHIVE
    _archive_groups(libraries, target, groups)
    files = {f"{lib}/{GROUPS_ARCHIVE}": groups}
    for libc in _LIBCS:
        runtime = folder / libc / RUNTIME_ARCHIVE
        _archive(runtime, build_static_runtime(_triple(target, libc)))
        files[f"{lib}/{libc}/{RUNTIME_ARCHIVE}"] = runtime
    return files | header_files()


def link_static(files: Mapping[str, Path], target: TargetSpec, main: Path, output: Path, libc: str = "musl") -> None:
    """Write ``output``: the C file ``main`` and the archives of `static_files` as one program.

    With musl it needs no loader and runs on any Linux; with gnu it takes the C library of the machine it runs on, and
    zig need not build one. Raises BuildError with the compiler's own message.
    """
    lib = f"lib/{target.name}"
    archives = (files[f"{lib}/{GROUPS_ARCHIVE}"], files[f"{lib}/{libc}/{RUNTIME_ARCHIVE}"])
    triple, how = (_triple(target, "musl"), ("-static",)) if libc == "musl" else (target.zig_triple, ())
    with atomic_path(output) as temporary:
        inputs = (str(main), *map(str, archives), "-lm", "-lpthread")
        zig_cc((*how, *_PROGRAM_FLAGS, "-o", str(temporary), *inputs), output.name, triple)
    make_executable(output)


def check_static(contents: Contents, target: TargetSpec, work: Path, threads: int = 0) -> None:
    """Verify ``contents`` with a program linked from their archives and run on this machine, all in ``work``.

    Raises BuildError with its words when it does not repeat the golden output.
    """
    program, bundle = work / "check_bundle", work / "static.bundle"
    link_static(contents.static, target, RUNTIME / "examples" / "check_bundle.c", program, "gnu")
    write_bundle(bundle, contents)
    done = subprocess.run([program, bundle, str(threads)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"static program: expected the golden output of the shared libraries, got exit code {done.returncode}: "
            f"{done.stderr.strip()[-2000:]}; report this target, or compile with --emit shared"
        )


def _archive_groups(libraries: Sequence[GroupLibrary], target: TargetSpec, output: Path) -> None:
    names = {library.path.stem: f"tvm_flow_library_{i}" for i, library in enumerate(libraries)}
    hashes = {library.path.stem: bytes.fromhex(sha256_file(library.path)) for library in libraries}
    with temporary_folder("link") as folder:
        linked, joined = folder / "linked.c", folder / "tvm_flow_groups.o"
        linked.write_text(emit_linked({group: (symbol, hashes[group]) for group, symbol in names.items()}))
        sources = [linked]
        for library in libraries:
            group = library.path.stem
            source = folder / f"{group}.c"
            source.write_text(plan_source(library.plan, library.artifacts, target, group, names[group]))
            sources += [source, *library.artifacts.objects]
        arguments = (*_GROUP_FLAGS, *target.c_flags, "-o", str(joined), *map(str, sources))
        zig_cc(arguments, output.name, _triple(target, "musl"))
        _archive(output, joined)


def _archive(output: Path, member: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    archive(output, member)


def _triple(target: TargetSpec, libc: str) -> str:
    return f"{target.triple.split('-')[0]}-{_LIBCS[libc]}"
