"""A bundle on a board: sent there, and its golden input run by its own runtime and libraries, every call as a record.

The library that the board's RPC server loads (runtime/emulate/board_check.c) finds the bundle's runtime beside itself.
Files go over in parts with a deadline each, and those that are there already stay. A session is one folder of the
server, which it deletes when the session ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from tvm_flow.artifact import sha256_file
from tvm_flow.check.call_stream import follow_calls
from tvm_flow.check.parts import Part
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.pack import read_manifest
from tvm_flow.pack.format import is_safe_path
from tvm_flow.plan.folds import Floats
from tvm_flow.run import TracedCall
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE, INCLUDE
from tvm_flow.toolchain.runtime_library import SONAME, build_runtime
from tvm_flow.toolchain.zig import PAGES, zig_cc
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_program import FLAGS
from tvm_flow.tune.board_session import TRANSFER, BoardSession, Remote
from tvm_flow.tune.rounds import NoTimeError

CHECKER = "board_check.so"
CHUNK, TAKEN = 1 << 22, 1 << 20
"""Bytes of a file, and of records, that go over at a time."""
SILENCE = 900.0
"""Seconds for one kernel call, or to open a bundle; a slow board hashes gigabytes."""
_WAIT = 1.0
_NOT_RUN = (".h", ".a", "check_bundle", "LICENSE", "calls.json", SONAME)
"""Ends of names of what is no part of a run: the runtime lies beside the checker."""


def link_checker(target: TargetSpec, folder: Path) -> tuple[Path, Path]:
    """The library for a board's RPC server, made in ``folder``, and the runtime that it needs; raises BuildError."""
    runtime, output = build_runtime(target.zig_triple), folder / CHECKER
    sources = [str(EMULATE / name) for name in ("board_check.c", "board_file.c")]
    arguments = (*FLAGS, PAGES, f"-I{INCLUDE}", "-Wl,-rpath,$ORIGIN", "-o", str(output), *sources, str(runtime))
    zig_cc((*arguments, "-lpthread", "-ldl"), CHECKER, target.zig_triple)
    return output, runtime


@dataclass(frozen=True)
class BoardRun:
    """Asked: ``part`` of ``bundle``, compiled for the target of that name, with so many ``threads``."""

    bundle: Path
    part: Part
    threads: int
    target: str


class BoardBundles(BoardSession):
    """A session that runs bundles; ``libraries`` are those of `link_checker`."""

    def __init__(self, board: Board, libraries: tuple[Path, Path], progress: bool = True) -> None:
        super().__init__(board)
        self.libraries, self.progress, self.sent = libraries, progress, dict[str, str]()

    def remote(self) -> Remote:
        """See `BoardSession.remote`."""
        return _Bundles(self.board)

    def begin(self) -> None:
        """See `BoardSession.begin`."""
        self.sent.clear()
        checker, runtime = self.libraries
        self.answer("runtime", TRANSFER, runtime)
        self.answer("load", TRANSFER, checker)

    def run(self, asked: BoardRun, on_call: Callable[[TracedCall], object], on_step: Callable[[], object]) -> Floats:
        """What `tvm_flow.check.call_stream.follow_calls` gives; what a callback raises ends the run there too.

        Raises BuildError with the runtime's own words, BoardError when the board is lost.
        """
        self.send(asked.bundle)
        devices = f"bundle/lib/{asked.target}"
        if code := self.ask("start", TRANSFER, "bundle", devices, asked.part.value, asked.threads):
            raise BuildError(f"board {self.board}: expected a run to begin, got: {os.strerror(-int(code))}; restart it")
        stream = _BoardStream(self)
        try:
            return follow_calls(stream, on_call, on_step)
        except Exception:
            if not stream.over and self.open:
                self.answer("stop", SILENCE)
            raise
        except BaseException:
            self.close()
            raise

    def send(self, bundle: Path) -> None:
        """Put the files of ``bundle`` that run onto the board, those that are not there; raises BuildError."""
        self.ask("folder", TRANSFER)  # there is a session now, and what it has is known
        files = {path: sha256_file(bundle / path) for path in _files(bundle)}
        missing = [path for path, digest in files.items() if self.sent.get(path) != digest]
        size = sum((bundle / path).stat().st_size for path in missing)
        words = f"send to board {self.board}"
        with tqdm(total=size, desc=words, unit="B", unit_scale=True, disable=not self.progress) as bar:
            for path in missing:
                for position, data in _chunks(bundle / path):
                    if code := self.answer("put", TRANSFER, f"bundle/{path}", data, position):
                        raise BuildError(
                            f"board {self.board}: expected room for {path}, {size} bytes in all, in the work folder of "
                            f"its server, got: {os.strerror(-int(code))}; start the server with TMPDIR on another disk"
                        )
                    bar.update(len(data))
                self.sent[path] = files[path]

    def load_sums(self, library: Path) -> None:
        """A library of `tvm_flow.tune.board_program.link_board`, for `sums`."""
        self.ask("load_sums", TRANSFER, library)

    def sums(self, kernel: int, x: Array, packed: Array, shape: tuple[int, int]) -> Array:
        """int32 ``shape`` that ``kernel`` adds up; raises NoTimeError when it fails."""
        found = self.answer("sums", SILENCE, kernel, x, packed, shape)
        if found is None:
            raise NoTimeError(f"board {self.board}: expected sums {shape}, the kernel failed; report this target")
        return np.asarray(found)


class _BoardStream:
    """Records of a run; see `tvm_flow.check.call_stream.CallStream`."""

    def __init__(self, session: BoardBundles) -> None:
        self.session, self.data, self.over = session, bytearray(), False

    def read(self, count: int) -> bytes:
        quiet_until = time.monotonic() + SILENCE
        while len(self.data) < count:
            taken = self._take()
            if taken is None:
                self.fail("the end of its records")
            if taken:
                quiet_until = time.monotonic() + SILENCE
            elif time.monotonic() > quiet_until:
                self.session.close()  # the kernel cannot be ended in any other way
                self.fail(f"nothing for {SILENCE:g} s: it hangs in a kernel, or is too slow")
            self.data += taken
        found = bytes(self.data[:count])
        del self.data[:count]
        return found

    def finish(self) -> None:
        while (taken := self._take()) is not None:
            if taken:
                self.fail("records after the last one")
        if self._words():
            self.fail("a failure after the last step")

    def fail(self, got: str) -> NoReturn:
        words = self._words() if self.session.open and self.over else ""
        raise BuildError(
            f"board {self.session.board}: expected the bundle to run to its end, got {got}: "
            f"{words or 'it said nothing'}; report this target, or compile without --check-on"
        )

    def _take(self) -> bytes | None:
        taken: bytes | None = self.session.answer("take", TRANSFER, int(_WAIT * 1000))
        self.over = self.over or taken is None
        return taken

    def _words(self) -> str:
        return str(self.session.answer("words", TRANSFER))


def _files(bundle: Path) -> list[str]:
    """What of ``bundle`` runs; paths are checked, for they become names on the board."""
    found = [path for path in read_manifest(bundle).files if not path.endswith(_NOT_RUN)]
    if wrong := [path for path in found if not is_safe_path(path)]:
        raise BuildError(f"{bundle}: expected paths inside the bundle, got {wrong}; do not use it")
    return found


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Positions and bytes; one empty chunk of an empty file."""
    position = 0
    with path.open("rb") as file:
        while (data := file.read(CHUNK)) or not position:
            yield position, data
            position += len(data)
            if not data:
                return


class _Bundles(Remote):
    def on_folder(self) -> str:
        return self.folder

    def on_runtime(self, library: Path) -> None:
        self.rpc.upload(str(library), target=SONAME)

    def on_load(self, library: Path) -> None:
        self.module = self.load(library)
        self.folder = str(self.rpc.get_function("tvm.rpc.server.workpath")("")).rstrip("/")
        self.records = self.tensor(np.zeros(TAKEN, np.uint8))

    def on_put(self, path: str, data: bytes, position: int) -> int:
        sent = self.tensor(np.frombuffer(data, np.uint8))
        return int(self.module["board_put"](self.text(f"{self.folder}/{path}"), sent, position))

    def on_start(self, bundle: str, devices: str, part: str, threads: int) -> int:
        paths = (self.text(f"{self.folder}/{path}") for path in (bundle, devices))
        return int(self.module["board_start"](*paths, self.text(part), threads))

    def on_take(self, milliseconds: int) -> bytes | None:
        count = int(self.module["board_take"](self.records, milliseconds))
        return None if count < 0 else self.records.numpy()[:count].tobytes() if count else b""

    def on_words(self) -> str:
        text = self.tensor(np.zeros(512, np.uint8))
        count = int(self.module["board_words"](text))
        return bytes(text.numpy()[:count]).decode(errors="replace")

    def on_stop(self) -> None:
        self.module["board_stop"]()

    def on_load_sums(self, library: Path) -> None:
        self.add_up = self.load(library)["board_time"]

    def on_sums(self, kernel: int, x: Array, packed: Array, shape: tuple[int, int]) -> Array | None:
        output = self.tensor(np.zeros(shape, np.int32))
        if int(self.add_up(kernel, 1, 1, self.tensor(x), self.tensor(packed), output)) < 0:
            return None
        found: Array = output.numpy()
        return found
