"""What identifies a kernel, and whatever else a measurement depends on: the keys of records."""

from __future__ import annotations

from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions
from tvm_flow.tune.entries import Key

METHOD = "paired-1"
"""Version of `tvm_flow.tune.rounds`: samples of another one are not comparable."""


def compilers_text() -> str:
    """Versions of all compilers; raises BuildError when one is not installed."""
    return ", ".join(f"{name} {version}" for name, version in compiler_versions().items())


def key_of(workload: str, target: TargetSpec, threads: int, method: str = METHOD) -> Key:
    """The key of measurements of ``workload`` on ``threads`` threads of ``target``."""
    features = " ".join([*sorted(target.features), *(f"-{name}" for name in sorted(target.disabled))])
    return Key(workload, f"{target.triple} {target.cpu}", features, compilers_text(), f"{method} threads={threads}")
