"""Which compilers are installed: another version may give other machine code."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from tvm_flow.errors import BuildError


def compiler_versions() -> dict[str, str]:
    """Of what turns graphs into machine code, by package; raises BuildError when one is not installed."""
    return {name: _version(name) for name in ("apache-tvm", "ziglang")}


def zig_version() -> str:
    """Of the C compiler; raises BuildError when it is not installed."""
    return _version("ziglang")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError as error:
        raise BuildError(f"{name}: expected the compiler that pip installs, got none; pip install {name}") from error
