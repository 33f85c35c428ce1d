"""What to compile for: a YAML file of ``targets/``, or the machine this runs on.

    name: raspberry-pi-5            folder under lib/ in a bundle
    triple: aarch64-linux-gnu       LLVM's spelling
    cpu: cortex-a76                 LLVM's name
    features: [dotprod]             that the kernels may use, and the runtime checks before the first one runs
    disabled: [sve]                 that the CPU's name implies and the kernels must not use
    backends: [cpu]                 the kinds of device, in the order in which kernels are offered to them

and the cores, cache and source of `tvm_flow.target.board`.
``host`` detects all of it; a generic target is never chosen unless it is named.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_archlist, llvm_get_cpu_features, llvm_get_system_cpu

from tvm_flow.errors import ConfigError
from tvm_flow.shipped import shipped_folder
from tvm_flow.target.board import KEYS, Board, read_board

GLIBC = "2.28"
_REQUIRED = {"name", "triple", "cpu"}
_KEYS = _REQUIRED | {"features", "disabled", "backends"} | KEYS
_TRIPLES = ("aarch64-linux-gnu", "riscv64-linux-gnu", "x86_64-linux-gnu")
# All that LLVM may choose instructions from: what a library was compiled with, the runtime must find before it runs.
_X86_FEATURES = (
    *("sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "sse4a", "popcnt", "avx", "avx2", "fma", "f16c"),
    *("bmi", "bmi2", "lzcnt", "movbe", "adx", "aes", "gfni", "vaes", "vpclmulqdq", "avxvnni"),
    *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16", "avx512bitalg"),
    *("avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vpopcntdq", "avx512fp16"),
)
# Of no use to kernels, and under names that the runtime does not know: never compiled with.
_X86_NEVER = frozenset({"pclmul", "sha", "xop", "fma4", "tbm", "avxifma", "avxvnniint8", "avxvnniint16", "amx-tile"})
_LINUX_NAMES = {"pni": "sse3", "abm": "lzcnt", "bmi1": "bmi"}

# Of what LLVM says a core implies, the names that the runtime can check (runtime/src/cpu.c).
_ARM_FEATURES = ("neon", "lse", "fullfp16", "dotprod", "i8mm", "bf16", "sve", "sve2")


@dataclass(frozen=True)
class TargetSpec:
    """A target: LLVM's triple and CPU, and the features that kernels may use."""

    name: str
    triple: str
    cpu: str
    features: frozenset[str]
    disabled: frozenset[str] = frozenset()
    """Features that the CPU's name implies and this machine lacks."""
    board: Board = field(default_factory=Board)
    backends: tuple[str, ...] = ("cpu",)
    """Names of those that are asked for each kernel, in order of preference; see `tvm_flow.backends.registry`."""

    def tvm(self) -> Target:
        """As TVM names it."""
        options: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu}
        attributes = [f"+{name}" for name in sorted(self.features)] + [f"-{name}" for name in sorted(self.disabled)]
        if self.triple.startswith("aarch64-"):
            attributes.append("+reserve-x18")  # Android keeps its shadow call stack there; nobody else misses it
        return Target(options | ({"mattr": attributes} if attributes else {}))

    def describe(self) -> dict[str, Any]:
        """For a manifest: what the machine code depends on."""
        lists = {"features": sorted(self.features), "disabled": sorted(self.disabled)}
        said = {"name": self.name, "triple": self.triple, "cpu": self.cpu} | lists
        return said | ({"backends": list(self.backends)} if self.backends != ("cpu",) else {})

    @property
    def c_flags(self) -> tuple[str, ...]:
        """For C that is linked with the kernels, as `tvm` says."""
        return ("-ffixed-x18",) if self.triple.startswith("aarch64-") else ()

    @property
    def zig_triple(self) -> str:
        """As zig names it, with the oldest glibc that is supported."""
        return f"{self.triple.split('-')[0]}-linux-gnu.{GLIBC}"


def targets_folder() -> Path:
    """Where the named targets are."""
    return shipped_folder("targets")


def detect_host() -> TargetSpec:
    """The CPU this runs on: LLVM's name for it, and what the operating system says it may use."""
    machine = platform.machine()
    plain = TargetSpec("host", f"{machine}-linux-gnu", str(llvm_get_system_cpu()), frozenset())
    implied = frozenset(str(name) for name in llvm_get_cpu_features(plain.tvm()))
    if machine != "x86_64":
        return replace(plain, features=implied & frozenset(_ARM_FEATURES))
    usable = frozenset(_X86_FEATURES) & _linux_features(Path("/proc/cpuinfo").read_text())
    # A virtual machine can hide what the CPU's model has.
    return replace(plain, features=usable, disabled=implied & (frozenset(_X86_FEATURES) - usable | _X86_NEVER))


def _linux_features(cpuinfo: str) -> frozenset[str]:
    """The flags line in LLVM's spelling: sse4_2 is sse4.2 there, avx512_vnni avx512vnni, avx_vnni avxvnni."""
    line = next((text for text in cpuinfo.splitlines() if text.startswith("flags")), "")
    plain = (re.sub(r"(?<=\d)_(?=\d)", ".", flag).replace("_", "") for flag in line.split(":")[-1].split())
    return frozenset(_LINUX_NAMES.get(flag, flag) for flag in plain)


def target_path(name: str) -> Path:
    """The file of a target: ``name`` itself when it is one, else that of ``targets/``."""
    return Path(name) if name.endswith((".yaml", ".yml")) else targets_folder() / f"{name}.yaml"


def load_target(name: str) -> TargetSpec:
    """``host``, the name of a file in ``targets/``, or the path of a YAML file.

    Raises ConfigError naming the known targets, or the key that is wrong.
    """
    if name == "host":
        return detect_host()
    path = target_path(name)
    if not path.is_file():
        known = sorted({"host", *(p.stem for p in targets_folder().glob("*.yaml"))})
        raise ConfigError(f"target {name!r}: expected one of {', '.join(known)} or a YAML file; choose one of them")
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a readable YAML file, got: {error}; correct the file") from error
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
    _require(path, "triple", triple, triple in _TRIPLES, f"one of {', '.join(_TRIPLES)}")
    for key, names in lists.items():
        known = isinstance(names, list) and all(isinstance(n, str) and re.fullmatch(r"[\w.-]+", n) for n in names)
        _require(path, key, names, known, "a list of LLVM's names, quoted where YAML reads a number")
    cpus = [str(entry) for entry in llvm_get_cpu_archlist(TargetSpec("", triple, "generic", frozenset()).tvm())]
    _require(path, "cpu", cpu, cpu in cpus, f"one of LLVM's names for {triple}: {', '.join(cpus)}")
    board = read_board(path, values)
    features, disabled = (frozenset(lists[key]) for key in ("features", "disabled"))
    return TargetSpec(name, triple, cpu, features, disabled, board, _backends(path, values.get("backends", ["cpu"])))


def _backends(path: Path, names: Any) -> tuple[str, ...]:
    known = isinstance(names, list) and all(isinstance(n, str) and re.fullmatch(r"[a-z]\w*", n) for n in names)
    _require(path, "backends", names, known and names and len({*names}) == len(names), "a list of names, each once")
    return tuple(names)


def _require(path: Path, key: str, got: Any, holds: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{path}: {key}: expected {expected}; got {got!r}; correct the file")
