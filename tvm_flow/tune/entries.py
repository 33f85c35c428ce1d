"""What was measured of one candidate of one kernel: a record of the store, and the key that says where it counts.

    key         workload, target, features, compilers, method: another in any of them is another question
    candidate   the choice, as canonical JSON; "" is candidate 0, the default schedule
    code        hashes of the scheduled kernel: the candidate's, and the default's that it was held against
    samples     seconds of a call, in the order they were taken; baseline: candidate 0's beside each of them

A record states no verdict. Who reads it computes one from all samples (`tvm_flow.tune.statistics`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from tvm_flow.errors import ConfigError

SCHEMA = 1
"""Of a record; readers skip any other."""
DEFAULT = ""
"""The candidate that is today's default schedule."""
Json = str | int | float | bool | None
Value = TypeVar("Value")


class Kind(StrEnum):
    """How far a candidate came."""

    TRIAL = "trial"
    """Raced against others."""
    FINAL = "final"
    """Measured pairwise against candidate 0 and confirmed by a second set of pairs."""
    MODELLED = "modelled"
    """Not measured: ``samples`` and ``baseline`` are cycles of `tvm_flow.tune.modelled`, one each."""
    FAILED = "failed"
    """No time: ``cause`` says why."""


@dataclass(frozen=True)
class Key:
    """What two records must have in common to be about the same thing."""

    workload: str
    """Hash of what the kernel computes and of its shapes."""
    target: str
    """LLVM's triple and CPU."""
    features: str
    """That the kernels may use."""
    compilers: str
    """Their versions."""
    method: str
    """How it was measured, its version, and on how many threads."""


@dataclass(frozen=True)
class Entry:
    """See the module; ``state`` is what `tvm_flow.tune.machine_state` read, ``label`` the kernel in words."""

    key: Key
    kind: Kind
    candidate: str
    code: str = ""
    default_code: str = ""
    samples: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    exact: bool = False
    """Its output was compared with the integer reference, and equal."""
    cause: str = ""
    label: str = ""
    state: Mapping[str, Json] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind is Kind.FAILED:
            return
        wrong = [t for t in (*self.samples, *self.baseline) if not (math.isfinite(t) and t > 0)]
        if wrong or not self.samples or len(self.samples) != len(self.baseline):
            raise ConfigError(
                f"record of {self.label or self.key.workload}: expected positive latencies, "
                f"as many of candidate 0, got {wrong[:1] or (len(self.samples), len(self.baseline))}; leave it out"
            )

    def to_json(self) -> dict[str, object]:
        """A mapping that `from_json` takes."""
        return {"schema": SCHEMA, **dataclasses.asdict(self), "state": dict(self.state)}

    @classmethod
    def from_json(cls, values: object) -> Entry:
        """Raises ConfigError saying what is wrong; nothing is converted or guessed."""
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            found = values.get("schema") if isinstance(values, dict) else values
            raise ConfigError(f"expected a record of schema {SCHEMA}, got {found!r}")
        names = {each.name for each in dataclasses.fields(cls)}
        if set(values) != names | {"schema"}:
            raise ConfigError(
                f"expected the fields {', '.join(sorted(names))}, got {', '.join(sorted(map(str, values)))}"
            )
        text = ("candidate", "code", "default_code", "cause", "label")
        return cls(
            key=_key(values["key"]),
            kind=_kind(values["kind"]),
            samples=_latencies("samples", values["samples"]),
            baseline=_latencies("baseline", values["baseline"]),
            exact=_is(bool, "exact", values["exact"]),
            state=_is(dict, "state", values["state"]),
            **{name: _is(str, name, values[name]) for name in text},
        )


def canonical(choice: Mapping[str, Json]) -> str:
    """The text of a candidate: equal choices have equal texts."""
    return json.dumps(dict(choice), sort_keys=True, separators=(",", ":"), allow_nan=False)


def parsed(candidate: str) -> object:
    """What `canonical` made a text of; raises ValueError."""
    return json.loads(candidate)


def _key(values: object) -> Key:
    names = [each.name for each in dataclasses.fields(Key)]
    if not isinstance(values, dict) or set(values) != set(names):
        raise ConfigError(f"key: expected {', '.join(names)}, got {values!r}")
    return Key(**{name: _is(str, name, values[name]) for name in names})


def _kind(value: object) -> Kind:
    if value not in list(Kind):
        raise ConfigError(f"kind: expected one of {', '.join(Kind)}, got {value!r}")
    return Kind(str(value))


def _latencies(name: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or not all(type(value) in (int, float) for value in values):
        raise ConfigError(f"{name}: expected a list of numbers, got {values!r}")
    return tuple(float(value) for value in values)


def _is(kind: type[Value], name: str, value: object) -> Value:
    if not isinstance(value, kind):
        raise ConfigError(f"{name}: expected {kind.__name__}, got {value!r}")
    return value
