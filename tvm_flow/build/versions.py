"""What turns graphs into machine code."""

from __future__ import annotations

from importlib.metadata import version


def compiler_versions() -> dict[str, str]:
    """The versions of TVM and zig: another one may give other kernels."""
    return {name: version(name) for name in ("apache-tvm", "ziglang")}
