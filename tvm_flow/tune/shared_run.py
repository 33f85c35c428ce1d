"""A tuning that many boards share: what each is given of the budget, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tvm_flow.tune.board_team import Job, Lost, Message, Said, Team, Told
from tvm_flow.tune.entries import Entry, Key
from tvm_flow.tune.search import Progress, Task
from tvm_flow.tune.tuning_run import Run, default_time
from tvm_flow.tune.verdicts import tried


@dataclass(kw_only=True)
class SharedRun(Run):
    """`Run` by a ``team``. A kernel's part is set aside while it is searched; what it leaves is there for others."""

    team: Team
    given: dict[Key, int] = field(default_factory=dict)
    """Trials that are set aside for a kernel and not done yet."""
    done: dict[Key, int] = field(default_factory=dict)
    """By the search that goes on."""
    before: dict[Key, tuple[Entry, ...]] = field(default_factory=dict)
    """What was known when it began."""
    heard: set[str] = field(default_factory=set)
    """What members say alike is told once."""

    def seconds(self, tasks: Sequence[Task]) -> Mapping[Key, float]:
        """See `Run.seconds`."""
        unknown = [task for task in tasks if not default_time(self.mine[task.key])]
        self.team.share(unknown, self._default, self._see)
        return {task.key: default_time(self.mine[task.key]) for task in tasks}

    def _default(self, task: Task, _behind: Sequence[Task]) -> Job | None:
        return Job(task, seconds=self.time_left()) if self.time_for_defaults else None

    def search(self, order: Sequence[Task]) -> None:
        """See `Run.search`."""
        self.team.share(order, self._job, self._see)

    def _job(self, task: Task, behind: Sequence[Task]) -> Job | None:
        if self.over:
            return None
        seconds = self.time_for(task, behind, len(self.team.members))
        known, trials = tuple(self.mine[task.key]), self.wanted(task, behind)
        self.given[task.key], self.done[task.key] = trials - len(tried(known)), 0
        self.before[task.key] = known
        self.left -= self.given[task.key]
        return Job(task, known, trials, seconds)

    def _see(self, task: Task, message: Message) -> None:
        if isinstance(message, Entry):
            self.mine[task.key].append(message)
            return
        if isinstance(message, Said):
            if message.text not in self.heard:
                self.live.line(message.text)
            self.heard.add(message.text)
            return
        if isinstance(message, Told):
            new = message.trials - self.done[task.key]
            self.done[task.key] += new
            self.given[task.key] -= new
            self.tuned.trials += new
            self.tried += new
            self.live.kernel(task.label)
            self.tell(task, Progress(message.trials, message.best), self.tried)
            return
        self.left += self.given.pop(task.key, 0)
        done = self.done.pop(task.key, 0)
        if isinstance(message, Lost):  # another board does all of it again, and the finals
            self.left += done
            self.tried -= done
            self.mine[task.key] = list(self.before.pop(task.key, self.mine[task.key]))
            others = f"; {task.label} is for one of the {len(self.team.members)} others" if self.team.members else ""
            self.live.line(f"{message.cause}{others}")
        elif message.failed:
            self.failed(task, message.failed)
        elif message.found is not None:
            self.found(task, message.found)
            self.gained()
