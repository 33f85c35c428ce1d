"""What a target file says of a board beyond its instruction set: cores, caches, and where the facts come from.

    cores: {big: 4, little: 4, little_cpu: cortex-a55}
    cache: {l1d_kib: 64, l2_kib: 512, l3_kib: 3072}     a big core's own, and what all share
    source: where a reader finds these numbers

Facts for people and schedulers; 0 and "" where the file does not say. The kernels do not depend on them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_flow.errors import ConfigError

_CORES = ("big", "little", "little_cpu")
_CACHE = ("l1d_kib", "l2_kib", "l3_kib")
KEYS = frozenset({"cores", "cache", "source"})
"""Keys of a target file that this module reads."""


@dataclass(frozen=True)
class Board:
    """Cores of each kind, a big core's data caches in KiB, and the source of the numbers."""

    big: int = 0
    little: int = 0
    little_cpu: str = ""
    l1d_kib: int = 0
    l2_kib: int = 0
    l3_kib: int = 0
    source: str = ""

    def as_mapping(self) -> dict[str, Any]:
        """The keys of a target file, without what is not known."""
        parts = {key: {n: v for n in names if (v := getattr(self, n))} for key, names in _GROUPS.items()}
        return {key: value for key, value in (parts | {"source": self.source}).items() if value}


_GROUPS = {"cores": _CORES, "cache": _CACHE}


def read_board(path: Path, values: Mapping[str, Any]) -> Board:
    """The board that ``values`` of the target file ``path`` describe; raises ConfigError naming a wrong key."""
    given: dict[str, Any] = {"source": values.get("source", "")}
    for key, names in _GROUPS.items():
        part = values.get(key, {})
        if not isinstance(part, dict) or set(part) - set(names):
            raise _wrong(path, key, f"a mapping with keys among {', '.join(names)}", part)
        given |= part
    for name, value in given.items():
        text = name in ("source", "little_cpu")
        if not (isinstance(value, str) if text else type(value) is int and value > 0):
            raise _wrong(path, name, "a text" if text else "a whole number above 0", value)
    return Board(**given)


def _wrong(path: Path, key: str, expected: str, got: object) -> ConfigError:
    return ConfigError(f"{path}: {key}: expected {expected}; got {got!r}; correct the file")


def detect_board(cpus: Path = Path("/sys/devices/system/cpu")) -> Board:
    """This machine, as Linux describes it; a core is little when its capacity is below the greatest."""
    capacities = {path.parent: int(path.read_text()) for path in cpus.glob("cpu[0-9]*/cpu_capacity")}
    biggest = max(capacities, key=lambda cpu: capacities[cpu], default=cpus / "cpu0")
    little = sum(capacity < capacities[biggest] for capacity in capacities.values())
    sizes: dict[str, Any] = {}
    for index in sorted(biggest.glob("cache/index[0-9]*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        name = {"1": "l1d_kib", "2": "l2_kib", "3": "l3_kib"}.get(level)
        if name and kind != "Instruction" and size.endswith("K"):
            sizes[name] = int(size[:-1])
    big = (os.cpu_count() or 1) - little
    return Board(big=big, little=little, source="detected by tvm-flow targets detect", **sizes)
