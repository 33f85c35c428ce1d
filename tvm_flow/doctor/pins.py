"""Versions that this package asks for, read where they are stated: pyproject.toml, or what pip made of it.

By the standard library alone, and not by the package packaging: doctor has to run where nothing is installed.
"""

from __future__ import annotations

import operator
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata

from tvm_flow.errors import ConfigError
from tvm_flow.shipped import is_checkout
from tvm_flow.sources import PACKAGE

DISTRIBUTION = "tvm-flow"
Key = tuple[tuple[int, ...], int, int]
_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)(?:\[[\w, .-]*\])?\s*\(?(?P<asked>[^;)]*)\)?"
    r"\s*(?:;\s*extra\s*==\s*[\"'](?P<extra>[\w.-]+)[\"'])?"
)
_VERSION = re.compile(r"(\d+(?:\.\d+)*)(a|b|rc|\.dev)?\d*(?:\.post(\d+))?(?:\.dev\d+)?(?:\+[\w.]+)?")
_COMPARISONS: Mapping[str, Callable[[Key, Key], bool]] = {
    **{"==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le},
    **{">": operator.gt, "<": operator.lt},
}


@dataclass(frozen=True)
class Pin:
    """A package and the versions that are asked for, as ">=2,<3"; "" for any."""

    name: str
    asked: str

    def __str__(self) -> str:
        return f"{self.name}{self.asked}"

    def met_by(self, version: str) -> bool:
        """Whether ``version`` is one of them; "" is not, nor is one of a form that nobody releases."""
        try:
            return version != "" and within(version, self.asked)
        except ConfigError:
            return False


@dataclass(frozen=True)
class Pins:
    """Of Python, of what every command needs, and of each extra."""

    python: str
    required: tuple[Pin, ...]
    extras: Mapping[str, tuple[Pin, ...]]


def read_pins() -> Pins:
    """Of this code; raises ConfigError where it is neither a checkout nor installed."""
    if is_checkout():
        project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
        extras = {name: _pins(lines) for name, lines in project["optional-dependencies"].items()}
        return Pins(project["requires-python"], _pins(project["dependencies"]), extras)
    try:
        stated = metadata(DISTRIBUTION)
    except PackageNotFoundError as error:
        raise ConfigError(
            f"{DISTRIBUTION}: expected a checkout or an installed package, got {PACKAGE} alone; pip install it"
        ) from error
    return pins_of_metadata(stated.get_all("Requires-Dist") or [], str(stated["Requires-Python"] or ""))


def pins_of_metadata(lines: list[str], python: str) -> Pins:
    """Of the Requires-Dist ``lines`` of an installed package."""
    by_extra: dict[str, list[str]] = {}
    for line in lines:
        by_extra.setdefault(_parsed(line)["extra"] or "", []).append(line)
    required = _pins(by_extra.pop("", []))
    return Pins(python, required, {name: _pins(of_it) for name, of_it in by_extra.items()})


def within(version: str, asked: str) -> bool:
    """Whether ``version`` is one of ``asked``, as ">=2,<3"; what a builder adds to it (2.13.0+cpu) does not count.

    Raises ConfigError for a comparison or version of another form.
    """
    for part in filter(None, (part.strip() for part in asked.split(","))):
        sign = part.rstrip("0123456789abcdefghijklmnopqrstuvwxyz.+ ")
        if sign not in _COMPARISONS:
            raise ConfigError(f"{part!r}: expected one of {' '.join(_COMPARISONS)} and a version; mend pyproject.toml")
        if not _COMPARISONS[sign](_key(version), _key(part.removeprefix(sign).strip())):
            return False
    return True


def _key(version: str) -> Key:
    """By which versions are ordered: numbers, before or after their release, number of the release after."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ConfigError(f"version {version!r}: expected numbers, perhaps with rc1, .post1 or +cpu; install it again")
    numbers = [int(number) for number in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), -1 if found[2] else 0, int(found[3] or 0)


def _parsed(line: str) -> re.Match[str]:
    found = _REQUIREMENT.fullmatch(line.strip())
    if found is None:
        raise ConfigError(f"{line!r}: expected a name with versions, perhaps of an extra; mend pyproject.toml")
    return found


def _pins(lines: list[str]) -> tuple[Pin, ...]:
    """Without this package itself, by which one extra names another."""
    found = [_parsed(line) for line in lines]
    return tuple(Pin(each["name"], each["asked"].strip()) for each in found if each["name"] != DISTRIBUTION)
