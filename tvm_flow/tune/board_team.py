"""Many boards of one key share the kernels of a tuning: a process for each board, and a queue they all take from.

    tracker  --board-->  member 1  <--kernel--  queue  --kernel-->  member 2  <--board--  tracker

A kernel is measured on one board from its first race to its finals, against that board's own default, and its records
name the board. One that is lost gives its kernel back: its records stay in the store, and another board searches the
kernel from the start, so that no search mixes two boards. A kernel that two boards were lost with is left alone, for it
may be what ends them.

Members are processes, not threads: each forks compilers, and a fork copies what another thread had locked.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tvm_flow.errors import BuildError
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.board_check import hold_board
from tvm_flow.tune.board_session import BoardError
from tvm_flow.tune.entries import Entry
from tvm_flow.tune.first_order import FirstOrder
from tvm_flow.tune.ledger import Writer
from tvm_flow.tune.local_bench import BoardBench, Costs, LocalBench
from tvm_flow.tune.rounds import LateError, NoTimeError
from tvm_flow.tune.search import FirstOf, Progress, Search, Task, time_default
from tvm_flow.tune.verdicts import Verdict

LOSSES = 2
"""So many boards are lost with a kernel before it is given up."""
GIVE_BACK = 10.0
"""Seconds for members, all at a time, to end their sessions."""


@dataclass(frozen=True)
class Job:
    """A search of ``task`` up to ``trials`` in ``seconds``; 0 trials: its default is timed."""

    task: Task
    known: Sequence[Entry] = ()
    trials: int = 0
    seconds: float = float("inf")


@dataclass(frozen=True)
class Told:
    """How far a search is."""

    trials: int
    best: float


@dataclass(frozen=True)
class Said:
    """A line for a person."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of a job: ``found`` unless only a default was timed, ``failed`` says why nothing was."""

    found: Verdict | None = None
    failed: str = ""


@dataclass(frozen=True)
class Lost:
    """A member's last word."""

    cause: str


Message = Entry | Told | Said | Done | Lost
See = Callable[[Task, Message], None]


@dataclass(eq=False)
class Member:
    """A board's process, and what it is at."""

    process: BaseProcess
    pipe: Connection
    task: Task | None = None


@dataclass
class Team:
    """Processes that `hire` made."""

    members: list[Member]
    costs: Costs = field(default_factory=Costs)
    causes: list[str] = field(default_factory=list)

    def share(self, tasks: Sequence[Task], job: Callable[[Task, Sequence[Task]], Job | None], see: See) -> None:
        """Have every one of ``tasks`` done, in order, as soon as a member is free.

        ``job`` says what is to be done with one, given those that wait behind it; None: nothing any more. ``see`` gets
        every message. Raises BoardError with the first cause when no board is left, OSError of the store, BuildError of
        a compiler.
        """
        queue, losses = deque(tasks), Counter[str]()
        while True:
            while queue and (free := next((each for each in self.members if each.task is None), None)):
                task = queue.popleft()
                if (wanted := job(task, tuple(queue))) is not None:
                    free.task = task
                    with suppress(OSError):  # it is seen to be lost when it is listened to
                        free.pipe.send(wanted)
            busy = [each for each in self.members if each.task is not None]
            if not busy and queue:
                raise BoardError(self.causes[0])
            if not busy:
                return
            ready = wait([each for member in busy for each in (member.pipe, member.process.sentinel)])
            for member in [each for each in busy if each.pipe in ready or each.process.sentinel in ready]:
                if (again := self._listen(member, see)) is None:
                    continue
                losses[again.key.workload] += 1
                if losses[again.key.workload] < LOSSES or not self.members:
                    queue.appendleft(again)
                else:
                    see(again, Done(failed=f"{LOSSES} boards were lost with it; the last: {self.causes[-1]}"))

    def _listen(self, member: Member, see: See) -> Task | None:
        """One message of ``member``; returns its task if it is lost."""
        task = member.task
        assert task is not None
        try:
            message = member.pipe.recv() if member.pipe.poll() else Lost("the process of a board ended")
        except (EOFError, OSError):
            message = Lost("the process of a board ended")
        if isinstance(message, OSError | BuildError):
            raise message
        if isinstance(message, Costs):
            self.costs.compile += message.compile
            self.costs.run += message.run
            return None
        if isinstance(message, Lost):
            self.causes.append(message.cause)
            self.members.remove(member)
            _end(member)
        elif isinstance(message, Done):
            member.task = None
        see(task, message)
        return task if isinstance(message, Lost) else None

    def close(self) -> None:
        """Give every board back."""
        for member in self.members:
            member.process.terminate()
        end = time.monotonic() + GIVE_BACK
        for member in self.members:
            _end(member, end - time.monotonic())
        self.members.clear()


def hire(benches: Sequence[LocalBench], target: TargetSpec, store: Path) -> Team:
    """A member for each of ``benches``, which gets a board and checks that it is ``target``'s with its first job."""
    context, members = multiprocessing.get_context("fork"), list[Member]()
    for bench in benches:
        assert isinstance(bench, BoardBench)
        ours, theirs = context.Pipe()
        others = [*(each.pipe for each in members), ours]
        process = context.Process(target=_work, args=(theirs, others, bench, target, store))
        process.start()
        theirs.close()
        members.append(Member(process, ours))
    return Team(members)


def _end(member: Member, seconds: float = GIVE_BACK) -> None:
    member.pipe.close()
    member.process.join(max(seconds, 0))
    member.process.kill()
    member.process.join()


def _work(pipe: Connection, others: Sequence[Connection], bench: BoardBench, target: TargetSpec, store: Path) -> None:
    """A member: answers jobs until its board is lost, or its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the board is given back
    for each in others:
        each.close()  # or the pipe would never end
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError), Writer(store) as writer, closing(bench):
        first = FirstOrder.on(bench, store, writer.append, lambda text: pipe.send(Said(text))).ratios
        try:
            while True:
                job: Job = pipe.recv()
                end = time.monotonic() + job.seconds
                bench.costs = Costs()
                if bench.held is None and (why := _hold(bench, target, job.seconds)):
                    pipe.send(Lost(why))
                    return
                done = _done(job, end, bench, writer, pipe, first)
                pipe.send(bench.costs)
                pipe.send(done)
        except BoardError as error:
            pipe.send(Lost(str(error)))
        except (OSError, BuildError) as error:
            pipe.send(error)


def _hold(bench: BoardBench, target: TargetSpec, seconds: float) -> str:
    """Get a board for ``bench``, waiting for ``seconds`` at most; returns why there is none."""
    assert bench.board is not None
    bench.folder.mkdir(parents=True, exist_ok=True)
    try:
        bench.held, _ = hold_board(bench.board, target, bench.folder, seconds)
    except BuildError as error:
        return str(error)
    return ""


def _done(job: Job, end: float, bench: BoardBench, writer: Writer, pipe: Connection, first: FirstOf) -> Done:
    """What became of ``job`` until the clock shows ``end``; entries are in the store before they are told.

    Raises BoardError.
    """

    def keep(entry: Entry) -> None:
        writer.append(entry)
        pipe.send(entry)

    def tell(_: Task, progress: Progress) -> None:
        pipe.send(Told(progress.trials, progress.best))

    def left() -> float:
        return end - time.monotonic()

    try:
        if not job.trials:
            keep(time_default(bench, job.task, left()))
            return Done()
        search = Search(bench, keep, left, first)
        return Done(search.run(job.task, job.known, job.trials, Progress(seen=tell)))
    except BoardError:
        raise
    except LateError:
        return Done()
    except NoTimeError as error:
        return Done(failed=str(error))
