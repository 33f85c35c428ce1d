"""What LLVM may use for a target: chosen here, checked by the runtime when a library is opened.

LLVM generates code for a CPU's name from everything that the name implies, ignores names that it does not know, and
says nothing of either. `settle` leaves no feature to it that is neither checked nor harmless.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache

from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_archlist, llvm_get_cpu_features

from tvm_flow.errors import ConfigError
from tvm_flow.target.feature_names import ARCHITECTURES, Names, flat


def names_for(triple: str) -> Names:
    """The names of the architecture of ``triple``; raises ConfigError for one whose features nothing can check."""
    found = ARCHITECTURES.get(triple.split("-")[0])
    if found is None:
        raise ConfigError(
            f"{triple}: expected an architecture whose features the runtime can check, one of "
            f"{', '.join(sorted(ARCHITECTURES))}; compile for one of them"
        )
    return found


def llvm_target(triple: str, cpu: str, attributes: Iterable[str] = ()) -> Target:
    """As TVM names it; an attribute leads with + or -, and a later one wins."""
    listed = list(attributes)
    return Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu} | ({"mattr": listed} if listed else {}))


def llvm_cpus(triple: str) -> list[str]:
    """LLVM's names of CPUs."""
    return [str(cpu) for cpu in llvm_get_cpu_archlist(llvm_target(triple, "generic"))]


@cache
def llvm_features(triple: str, cpu: str, attributes: tuple[str, ...] = ()) -> frozenset[str]:
    """All that LLVM generates code with."""
    return frozenset(str(name) for name in llvm_get_cpu_features(llvm_target(triple, cpu, attributes)))


@cache
def llvm_names(triple: str) -> frozenset[str]:
    """Every name that LLVM has for a feature: those of all its CPUs together."""
    return frozenset().union(*(llvm_features(triple, cpu) for cpu in llvm_cpus(triple)))


def settle(
    triple: str, cpu: str, features: Iterable[str], disabled: Iterable[str] = ()
) -> tuple[frozenset[str], frozenset[str]]:
    """Features that code is generated with and the runtime checks, and those that are switched off for it.

    The rule, for every target: code is generated with ``features``, with what they need, and with the architecture's
    base, all of which the runtime checks at open; what the CPU's name implies beyond that is switched off, unless it is
    known to bring no instruction (`Names.harmless`). A feature that is asked for and disabled at once is used.

    Raises ConfigError naming a feature that cannot be checked, or that LLVM does not know, with the names near it.
    """
    names = names_for(triple)
    used = closed(triple, (checkable(triple, name) for name in features))
    off = {known(triple, name) for name in disabled} | llvm_features(triple, cpu) - names.harmless
    return used, frozenset(off - used)


def offered(triple: str, cpu: str) -> frozenset[str]:
    """Of what the name of ``cpu`` implies, all that a target could list."""
    return llvm_features(triple, cpu) & names_for(triple).checkable


def closed(triple: str, features: Iterable[str]) -> frozenset[str]:
    """``features``, all that LLVM or the machines there are have with them, and the architecture's base."""
    names = names_for(triple)
    asked = names.base.union(features)
    asked |= frozenset().union(*(names.together.get(name, frozenset()) for name in asked))
    attributes = tuple(f"+{name}" for name in sorted(asked))
    return asked | llvm_features(triple, names.plain_cpu, attributes) & names.checkable


def checkable(triple: str, name: str) -> str:
    """LLVM's spelling of ``name``, in whatever spelling; raises ConfigError for what the runtime cannot check."""
    names = names_for(triple)
    spellings = _spellings(names)
    if flat(name) in spellings:
        return spellings[flat(name)]
    raise ConfigError(
        f"expected features that the runtime can check on {triple.split('-')[0]}; got {name!r}"
        f"{_near(name, spellings)}; known are {', '.join(sorted(names.checkable))}"
    )


def known(triple: str, name: str) -> str:
    """LLVM's spelling of ``name`` to switch off; raises ConfigError for what LLVM would ignore."""
    spellings = {flat(each): each for each in llvm_names(triple)} | _spellings(names_for(triple))
    if flat(name) in spellings:
        return spellings[flat(name)]
    raise ConfigError(
        f"expected features that LLVM knows on {triple.split('-')[0]}; got {name!r}{_near(name, spellings)}"
    )


def reported(triple: str, cpuinfo: str) -> frozenset[str]:
    """What Linux's /proc/cpuinfo says may be used, as far as it can be checked and has all that it needs."""
    names = names_for(triple)
    spellings = _spellings(names)
    title = "Features" if triple.startswith("aarch64-") else "flags"
    line = next((text for text in cpuinfo.splitlines() if text.startswith(title)), "")
    found = {spellings[flat(word)] for word in line.split(":")[-1].split() if flat(word) in spellings}
    usable = {name for name in found if closed(triple, [name]) <= found | names.base}
    return frozenset(usable | ({"crc32"} if "sse4.2" in usable else set()))  # one flag for both


def _spellings(names: Names) -> dict[str, str]:
    own = {flat(name): name for name in names.checkable}
    return {flat(alias): name for alias, name in names.aliases.items()} | own


def _near(name: str, spellings: dict[str, str]) -> str:
    near = dict.fromkeys(spellings[word] for word in difflib.get_close_matches(flat(name), spellings))
    return f", near {' and '.join(near)}" if near else ""
