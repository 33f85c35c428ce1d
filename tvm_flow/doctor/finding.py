"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """``WRONG``: there, but of another version, or it does not work."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What was found of ``name``, which ``needed_by`` needs; ``mend`` is the one command that makes it good."""

    name: str
    status: Status
    found: str
    needed_by: str
    mend: str = ""
    required: bool = False

    @property
    def fatal(self) -> bool:
        """Nothing can be built until it is mended."""
        return self.required and self.status is not Status.OK

    def lines(self) -> list[str]:
        """For a person; what is in order takes one."""
        first = f"{self.status:<8} {self.name}: {self.found}"
        if self.status is Status.OK:
            return [first]
        kind = "required" if self.required else "optional"
        return [first, f"         {kind}, needed by: {self.needed_by}", f"         mend: {self.mend}"]

    def as_dict(self) -> dict[str, str | bool]:
        """For JSON."""
        return asdict(self) | {"status": str(self.status)}


def summary(findings: Iterable[Finding]) -> str:
    """The last line for a person."""
    bad = [each for each in findings if each.status is not Status.OK]
    fatal = [each.name for each in bad if each.fatal]
    optional = f"{len(bad) - len(fatal)} optional parts to mend"
    if fatal:
        return f"required and not in order: {', '.join(fatal)}; {optional}"
    return f"all that is required is in order; {optional}"
