"""Commands whose writes fail, that are killed in the midst of one, raced, or given a link: what they say and leave.

python -m support.broken_writes [--most N] [--stages NAME ...]

Every stage of `support.broken_stages` is run whole once, which counts what it writes below its folder and keeps what
came of it. Then, at N of these writes or at all of them,

    full     the disk is full from there on: one line naming the output and the cause, exit code 2, what was there
             before is there whole, and nothing else;
    killed   SIGKILL, half of it written: the same command then makes what the whole run made, and leaves nothing;

and once each,

    busy     another process holds the output: one line says so, and nothing is touched;
    raced    two at once: each makes it whole or is told of the other;
    linked   the output is a link: it stays one, and what it names becomes the output.

A library that is preloaded (broken_writes.c) makes writes fail, so the module starts itself again with it. Commands are
`main` of the CLI in this process, and in its forks where they are killed; which ones are tried, that module says.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from support.broken_stages import INPUTS, STAGES, Stage, Tree, write_given
from tvm_flow.artifact import exclusive
from tvm_flow.cli import main as command
from tvm_flow.scratch import temporary_folder


class Tried:
    """One stage, and the folders that its words name."""

    def __init__(self, stage: Stage, inputs: Path, place: Path, shim: ctypes.CDLL) -> None:
        self.stage, self.shim, self.inputs = stage, shim, inputs
        self.work, self.begin = place / "work", place / "begin"
        self.output = self.work / stage.output
        self.work.mkdir()
        for words in filter(None, stage.before.split(" && ")):
            self.expect(words)
        shutil.copytree(self.work, self.begin, symlinks=True)
        self.before = tree(self.work)
        shim.broken_begin(os.fsencode(self.work), 0, 0)
        self.expect(stage.words)
        self.writes = shim.broken_end()
        self.after = tree(self.work)

    def run(self, words: str) -> tuple[int, str]:
        """Exit code, and what is said last on stderr, without the warnings before it."""
        told = io.StringIO()
        with redirect_stderr(told), redirect_stdout(io.StringIO()):
            code = command(split(words, {"I": self.inputs, "W": self.work}))
        assert "Traceback" not in told.getvalue(), told.getvalue()
        before, _, said = told.getvalue().rpartition("tvm-flow: ")
        return code, said.strip() if code else before

    def expect(self, words: str, done: str = "") -> None:
        code, said = self.run(words)
        assert code == 0 or (done and done in said), (words, said)

    def again(self) -> None:
        """What was there before the command."""
        shutil.rmtree(self.work)
        shutil.copytree(self.begin, self.work, symlinks=True)

    def full(self, at: int) -> None:
        self.again()
        self.shim.broken_begin(os.fsencode(self.work), at, 0)
        try:
            code, said = self.run(self.stage.words)
        finally:
            self.shim.broken_end()
        if code == 0:  # an exchange of names that failed was done by renames, for which a full disk has room
            self.expect_after(tree(self.work), f"full at {at}")
            return
        assert code == 2 and "\n" not in said, (at, code, said)
        assert self.stage.output in said and "No space left on device" in said, (at, said)
        self.expect_either(tree(self.work), f"full at {at}")

    def killed(self, at: int) -> None:
        self.again()
        if (child := os.fork()) == 0:
            self.shim.broken_begin(os.fsencode(self.work), at, 1)
            self.run(self.stage.words)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        varies = self.stage.same is not dict  # so may how often it writes, and it may come to its end
        assert ended == -signal.SIGKILL or (varies and ended == 0), (at, ended)
        self.expect(self.stage.words, self.stage.done)
        self.expect_after(tree(self.work), f"killed at {at}")

    def busy(self) -> None:
        self.again()
        with exclusive(self.work / (self.stage.held or self.stage.output)):
            held = tree(self.work)
            code, said = self.run(self.stage.words)
            assert code == 2 and "another command is writing it" in said and "\n" not in said, (code, said)
            assert tree(self.work) == held

    def raced(self) -> None:
        self.again()
        children = []
        for _ in range(2):
            if (child := os.fork()) == 0:
                code, said = self.run(self.stage.words)
                told = "another command is writing it" in said or (self.stage.done and self.stage.done in said)
                os._exit(code if code == 0 or told else 99)
            children.append(child)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert codes in ([0, 0], [0, 2]), codes
        self.expect_after(tree(self.work), "raced")

    def linked(self) -> None:
        self.again()
        real = self.work / "elsewhere" / "real"
        real.parent.mkdir()
        if self.output.exists():
            self.output.rename(real)
        self.output.symlink_to(real)
        self.expect(self.stage.words)
        assert self.output.is_symlink() and [path.name for path in real.parent.iterdir()] == ["real"]
        found = {name: data for name, data in tree(self.work).items() if not name.startswith("elsewhere")}
        made = {name.replace("elsewhere/real", self.stage.output): data for name, data in tree(real.parent).items()}
        self.expect_after({**found, **{n.replace("real", self.stage.output, 1): d for n, d in made.items()}}, "linked")

    def expect_either(self, found: Tree, when: str) -> None:
        """The output is all old or all new, each of its files for itself where they are several, and nothing else."""
        before, after, now = (self.of_output(self.stage.same(each)) for each in (self.before, self.after, found))
        if self.stage.each:
            whole = all(data in (before.get(name), after.get(name)) for name, data in now.items())
            assert whole and before.keys() <= now.keys(), (when, sorted(found))
        else:
            assert now in (before, after), (when, sorted(found))
        assert set(self.stage.same(found)) <= {*self.stage.same(self.before), *self.stage.same(self.after)}, when

    def of_output(self, found: Tree) -> Tree:
        return {name: data for name, data in found.items() if name.split("/")[0] == self.stage.output}

    def expect_after(self, found: Tree, when: str) -> None:
        now, after = self.stage.same(found), self.stage.same(self.after)
        wrong = [name for name in {*now, *after} if now.get(name) != after.get(name)]
        assert not wrong, (when, wrong)


def split(words: str, places: dict[str, Path]) -> list[str]:
    """As a shell would, with the folders that letters before a slash, or alone, stand for."""
    parted = [word.partition("/") for word in shlex.split(words)]
    return [f"{places.get(first, first)}{slash}{rest}" for first, slash, rest in parted]


def tree(folder: Path) -> Tree:
    """Every file and folder in ``folder``, hidden ones too; what a name of a folder is says b"/"."""
    return {
        path.relative_to(folder).as_posix(): b"/" if path.is_dir() else path.read_bytes() for path in folder.rglob("*")
    }


def prepare(inputs: Path, names: list[str]) -> None:
    """What the stages ``names`` read."""
    write_given(inputs, names)
    for words in dict.fromkeys((*INPUTS, *(words for name in names for words in STAGES[name].needs))):
        with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()):
            assert command(split(words, {"I": inputs, "W": inputs})) == 0, (words, told.getvalue())


def try_all(names: list[str], most: int, shim: ctypes.CDLL) -> dict[str, dict[str, int]]:
    """By stage: how often it writes, and at how many writes it failed and was killed."""
    counts = {}
    with temporary_folder("broken") as folder:
        (folder / "inputs").mkdir()
        prepare(folder / "inputs", names)
        for name in names:
            (folder / name).mkdir()
            tried = Tried(STAGES[name], folder / "inputs", folder / name, shim)
            points = range(1, tried.writes + 1) if not most else spread(tried.writes, most)
            for at in points:
                tried.full(at)
                tried.killed(at)
            if STAGES[name].alone:
                tried.busy()
            tried.raced()
            if not STAGES[name].done:  # a link is something that lies there
                tried.linked()
            counts[name] = {"writes": tried.writes, "tried": len(points)}
            print(f"{name}: {counts[name]}", file=sys.stderr, flush=True)
    return counts


def spread(count: int, most: int) -> list[int]:
    """``most`` numbers of 1 to ``count``, both of these among them."""
    return sorted({1 + round(k * (count - 1) / (most - 1)) for k in range(most)})


def main() -> None:
    """Print the counts as JSON; an assertion says where a stage does otherwise."""
    parser = argparse.ArgumentParser(description="Commands whose writes fail, or that are killed in the midst of one")
    parser.add_argument("--most", type=int, default=0, metavar="N", help="writes of each stage to try; 0 for all")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    asked = parser.parse_args()
    if "BROKEN_WRITES" not in os.environ:
        with temporary_folder("shim") as folder:
            shim = folder / "broken_writes.so"
            flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
            subprocess.run(["gcc", *flags, "-o", shim, Path(__file__).with_suffix(".c"), "-ldl"], check=True)
            given = {**os.environ, "LD_PRELOAD": str(shim), "BROKEN_WRITES": str(shim)}
            again = [sys.executable, "-m", "support.broken_writes", *sys.argv[1:]]
            sys.exit(subprocess.run(again, env=given, check=False).returncode)
    print(json.dumps(try_all(asked.stages, asked.most, ctypes.CDLL(os.environ["BROKEN_WRITES"]))))


if __name__ == "__main__":
    main()
