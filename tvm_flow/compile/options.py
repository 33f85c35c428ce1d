"""What a user chooses of a compilation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from tvm_flow.check.sampling import Automatic, CheckCalls
from tvm_flow.errors import ConfigError
from tvm_flow.tune.board_address import Board


class Emit(StrEnum):
    """What a bundle is made of."""

    SHARED = "shared"
    """Shared libraries."""
    STATIC = "static"
    """The archives of `tvm_flow.compile.static` too."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ConfigError(f"emit: expected shared or static, got {value!r}; choose one of them")


@dataclass(frozen=True)
class CompileOptions:
    """Choices of `compile_bundle`; ``threads`` 0 is one for every core. Only ``check``, ``emit`` and
    ``records`` change a bundle.
    """

    threads: int = 0
    progress: bool = True
    check: CheckCalls = field(default_factory=Automatic)
    """Kernel calls that are compared with the reference."""
    emit: Emit = Emit.SHARED
    least_coverage: float = 0.0
    """Share of the steps' multiply-adds that must leave the CPU, or nothing is compiled."""
    debug_dump: Path | None = None
    """Folder for the module after each pass; a bundle that is current is made again for it."""
    check_on: Board | None = None
    """Where the bundle is run and compared; None: on this machine, or under qemu."""
    records: Path | None = None
    """Store of measurements, by whose winners kernels are scheduled; None: by default."""
