"""What to compile for: a YAML file of ``targets/``, or the machine this runs on.

    name: raspberry-pi-5            folder under lib/ in a bundle
    triple: aarch64-linux-gnu       LLVM's spelling
    cpu: cortex-a76                 LLVM's name
    features: [dotprod]             that the kernels may use, and the runtime checks before the first one runs
    disabled: [sve]                 that the kernels must not use; what is not listed they do not use anyway
    backends: [cpu]                 the kinds of device, in the order in which kernels are offered to them
    vulkan: {...}                   what its GPU offers: `tvm_flow.target.vulkan_device`

and the cores, cache and source of `tvm_flow.target.board`. Features may be spelled as LLVM or Linux does, and bring
what they need; `tvm_flow.target.features` has the rule.
``host`` detects all of it; a generic target is never chosen unless it is named.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm.target import Target
from tvm.target.codegen import llvm_get_system_cpu

from tvm_flow.errors import ConfigError
from tvm_flow.fields import read_yaml
from tvm_flow.target.board import KEYS, Board, read_board
from tvm_flow.target.feature_names import ARCHITECTURES
from tvm_flow.target.features import checkable, closed, known, llvm_cpus, llvm_target, reported, settle
from tvm_flow.target.target_names import HOST, require_target, target_path
from tvm_flow.target.vulkan_device import VulkanDevice, read_vulkan

GLIBC = "2.28"
_REQUIRED = {"name", "triple", "cpu"}
_KEYS = _REQUIRED | {"features", "disabled", "backends", "vulkan"} | KEYS
_TRIPLES = tuple(f"{architecture}-linux-gnu" for architecture in sorted(ARCHITECTURES))


@dataclass(frozen=True)
class TargetSpec:
    """A target: LLVM's triple and CPU, the features that kernels may use, and those that are switched off for them.

    Both lists are as `tvm_flow.target.features.settle` leaves them: whatever is given, LLVM uses nothing that the
    runtime does not check. Raises ConfigError naming a feature that nothing knows.
    """

    name: str
    triple: str
    cpu: str
    features: frozenset[str]
    disabled: frozenset[str] = frozenset()
    """What was given, and all else that the CPU's name implies."""
    board: Board = field(default_factory=Board)
    backends: tuple[str, ...] = ("cpu",)
    """Names of those that are asked for each kernel, in order of preference; see `tvm_flow.backends.registry`."""
    vulkan: VulkanDevice | None = None

    def __post_init__(self) -> None:
        if self.architecture in ARCHITECTURES:
            used, off = settle(self.triple, self.cpu, self.features, self.disabled)
            object.__setattr__(self, "features", used)
            object.__setattr__(self, "disabled", off)

    @property
    def architecture(self) -> str:
        """The first part of the triple."""
        return self.triple.split("-")[0]

    def tvm(self) -> Target:
        """As TVM names it."""
        attributes = [f"+{name}" for name in sorted(self.features)] + [f"-{name}" for name in sorted(self.disabled)]
        if self.triple.startswith("aarch64-"):
            attributes.append("+reserve-x18")  # Android keeps its shadow call stack there; nobody else misses it
        return llvm_target(self.triple, self.cpu, attributes)

    def describe(self) -> dict[str, Any]:
        """For a manifest: what the machine code depends on."""
        lists = {"features": sorted(self.features), "disabled": sorted(self.disabled)}
        said = {"name": self.name, "triple": self.triple, "cpu": self.cpu} | lists
        devices = {"backends": list(self.backends)} if self.backends != ("cpu",) else {}
        return said | devices | ({"vulkan": self.vulkan.describe()} if self.vulkan is not None else {})

    @property
    def c_flags(self) -> tuple[str, ...]:
        """For C that is linked with the kernels, as `tvm` says."""
        return ("-ffixed-x18",) if self.triple.startswith("aarch64-") else ()

    @property
    def zig_triple(self) -> str:
        """As zig names it, with the oldest glibc that is supported."""
        return f"{self.architecture}-linux-gnu.{GLIBC}"


def target_of(described: Mapping[str, Any]) -> TargetSpec:
    """The target that `TargetSpec.describe` put into a manifest, as far as its CPU; raises ConfigError."""
    try:
        name, triple, cpu = (str(described[key]) for key in ("name", "triple", "cpu"))
        return TargetSpec(name, triple, cpu, frozenset(described["features"]), frozenset(described["disabled"]))
    except KeyError as error:
        raise ConfigError(
            f"target: expected a manifest that says its {error}, got {dict(described)}; compile the bundle again"
        ) from error


def detect_host() -> TargetSpec:
    """The CPU this runs on: LLVM's name for it, and what the operating system says it may use.

    A virtual machine can hide what the CPU's model has, and a phone's kernel what its core has. Raises ConfigError on
    an architecture whose features nothing can check.
    """
    triple = f"{platform.machine()}-linux-gnu"
    usable = reported(triple, Path("/proc/cpuinfo").read_text())
    return TargetSpec(HOST, triple, str(llvm_get_system_cpu()), usable)


def load_target(name: str) -> TargetSpec:
    """``host``, the name of a file in ``targets/``, or the path of a YAML file.

    Raises ConfigError naming the known targets, or the key that is wrong.
    """
    require_target(name)
    if name == HOST:
        return detect_host()
    path = target_path(name)
    values = read_yaml(path, "target")
    if not isinstance(values, dict) or set(values) - _KEYS or not set(values) >= _REQUIRED:
        raise ConfigError(
            f"{path}: expected the keys name, triple, cpu and perhaps {', '.join(sorted(_KEYS - _REQUIRED))}, got "
            f"{values}; correct the file"
        )
    return _from_mapping(path, values)


def _from_mapping(path: Path, values: dict[str, Any]) -> TargetSpec:
    name, triple, cpu = values["name"], values["triple"], values["cpu"]
    lists = {key: values.get(key) or [] for key in ("features", "disabled")}
    _require(
        path, "name", name, isinstance(name, str) and re.fullmatch(r"[\w.-]*\w[\w.-]*", name), "letters and dashes"
    )
    # TVM crashes on an architecture that its LLVM lacks, and compiles for another CPU than one it does not know.
    _require(
        path, "triple", triple, triple in _TRIPLES, f"one of {', '.join(_TRIPLES)}, for which kernels can be checked"
    )
    for key, names in lists.items():
        listed = isinstance(names, list) and all(isinstance(n, str) and re.fullmatch(r"[\w.-]+", n) for n in names)
        _require(path, key, names, listed, "a list of LLVM's names, quoted where YAML reads a number")
    cpus = llvm_cpus(triple)
    _require(path, "cpu", cpu, cpu in cpus, f"one of LLVM's names for {triple}: {', '.join(cpus)}")
    both = _checked_names(path, triple, lists["features"]) & _known_names(path, triple, lists["disabled"])
    _require(path, "disabled", sorted(both), not both, "nothing that features lists or needs")
    board = read_board(path, values)
    features, disabled = (frozenset(lists[key]) for key in ("features", "disabled"))
    backends = _backends(path, values.get("backends", ["cpu"]))
    return TargetSpec(name, triple, cpu, features, disabled, board, backends, _vulkan(path, values, backends))


def _vulkan(path: Path, values: dict[str, Any], backends: tuple[str, ...]) -> VulkanDevice | None:
    if ("vulkan" in values) != ("vulkan" in backends):
        _require(path, "vulkan", values.get("vulkan"), False, "a section, and vulkan among the backends, or neither")
    with _named(path, "vulkan"):
        return read_vulkan(values["vulkan"]) if "vulkan" in values else None


def _backends(path: Path, names: Any) -> tuple[str, ...]:
    known = isinstance(names, list) and all(isinstance(n, str) and re.fullmatch(r"[a-z]\w*", n) for n in names)
    _require(path, "backends", names, known and names and len({*names}) == len(names), "a list of names, each once")
    return tuple(names)


def _checked_names(path: Path, triple: str, names: list[str]) -> frozenset[str]:
    """All that the features ``names`` of the file bring."""
    with _named(path, "features"):
        return closed(triple, [checkable(triple, name) for name in names])


def _known_names(path: Path, triple: str, names: list[str]) -> frozenset[str]:
    with _named(path, "disabled"):
        return frozenset(known(triple, name) for name in names)


@contextmanager
def _named(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {key}: {error}; correct the file") from error


def _require(path: Path, key: str, got: Any, holds: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{path}: {key}: expected {expected}; got {got!r}; correct the file")
