"""Running zig, the C compiler and archiver that pip installs: the one place that does."""

from __future__ import annotations

import logging
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tvm_flow.errors import BuildError

MOST_WORDS = 3000
"""Characters of the compiler's output that an error's message holds; its note holds all."""
PAGES = "-Wl,-z,max-page-size=16384"
"""For every link: some AArch64 kernels, Android 15 among them, have pages of 16 KB and refuse smaller alignments."""
PATIENCE = 5.0
"""Seconds of silence that nobody wonders about. A link takes one; the first for a target of its own minutes."""
_ADVICE = "report this message, or choose another target"
_log = logging.getLogger(__name__)


def zig_cc(arguments: Sequence[str], what: str, triple: str, advice: str = _ADVICE, source: str | None = None) -> None:
    """Compile or link ``what`` for ``triple`` (zig's spelling, or "native"); ``source`` is C for an input of ``-``.

    Raises BuildError: what, for which triple, the compiler's first words and ``advice``; all words are its note.
    """
    _run("cc", ("-target", triple, *arguments), f"{what}: expected zig cc to make it for {triple}", advice, source)


def archive(output: Path, *members: Path) -> None:
    """Write the static library ``output``, without owner and time: equal members give equal bytes."""
    arguments = ("rcsD", str(output), *map(str, members))
    _run("ar", arguments, f"{output.name}: expected zig ar to make it", _ADVICE)


def _run(tool: str, arguments: Sequence[str], expected: str, advice: str, source: str | None = None) -> None:
    command = [_program(), tool, *arguments]
    _log.debug("%s", shlex.join(command))
    with _patient(expected):
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip()
        shown = words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]} ..."
        error = BuildError(f"{expected}, got exit code {done.returncode}: {shown}; {advice}")
        error.add_note(words)
        raise error


def _program() -> str:
    """What ``python -m ziglang`` starts: that Python takes six times as long as zig does to begin."""
    package = find_spec("ziglang")
    if package is None or package.origin is None:
        raise BuildError("ziglang: expected the compiler that pip installs, got none; pip install ziglang")
    return str(Path(package.origin).with_name("zig"))


@contextmanager
def _patient(expected: str) -> Iterator[None]:
    """Says once that the block goes on, where nothing would be seen for long."""
    words = "%s; it still works: the first time for a target it builds a C library"
    timer = threading.Timer(PATIENCE, _log.warning, (words, expected))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
