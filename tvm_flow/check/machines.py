"""The machines that a bundle can be run and compared on, each a row of `MACHINES`.

A machine runs a part of a bundle on its golden input and shows every kernel call. One that loads no libraries is given
them as part of a program: `Machine.prepared`. A graphics driver is one more row; a board is named by whoever has one:
`tvm_flow.tune.board_machine`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tvm_flow.backends.cpu.packing import Product
from tvm_flow.check.emulator import EMULATED, TRACE_PROGRAM, EmulatedRun, Emulator, find_emulator, run_emulated
from tvm_flow.check.parts import Part
from tvm_flow.check.sums import StartsSums, link_sums
from tvm_flow.errors import BuildError
from tvm_flow.pack import read_golden
from tvm_flow.plan.folds import Floats
from tvm_flow.run import Bundle, BundleDecoder, TracedCall
from tvm_flow.target.spec import TargetSpec

See = Callable[[TracedCall], object]
Link = Callable[[Path, Path], None]
"""Makes a static program (second) of a C file (first) and the libraries that are to be run."""


class Machine(Protocol):
    """Where a bundle is run to be compared."""

    @property
    def command(self) -> tuple[str, ...]:
        """What a helper program for it is started with; then the program is static. Empty: none is needed."""

    @property
    def whole(self) -> bool:
        """It runs every step, whatever of them is compared."""

    @property
    def loads_files(self) -> bool:
        """It verifies the files of a bundle as they are shipped, in another place than `trace` ran their kernels."""

    def describe(self) -> str:
        """For reports."""

    def prepared(self, folder: Path, link: Link) -> Machine:
        """With all that it needs to run one bundle, made in ``folder``; raises BuildError."""

    def sums(self, products: Iterable[Product], target: TargetSpec, folder: Path) -> StartsSums | None:
        """See `tvm_flow.check.sums.link_sums`."""

    def trace(self, bundle: Path, part: Part, threads: int, see: See, step: Callable[[], object]) -> Floats:
        """Latents or frames, of any shape, that ``part`` makes of the golden input of ``bundle``.

        ``see`` is shown every kernel call, ``step`` is called after each step; what they raise ends the run and is
        raised here. Raises BundleError, BuildError or RuntimeFailure when the machine cannot run it.
        """

    def verify(self, bundle: Path, threads: int) -> None:
        """Raise BundleError when the golden input does not give the golden output of ``bundle``."""


@dataclass(frozen=True)
class ThisProcess:
    """The C runtime under Python, for a bundle of this machine's own architecture."""

    command = ()
    whole = False
    loads_files = False

    def describe(self) -> str:
        return "this machine"

    def prepared(self, _folder: Path, _link: Link) -> Machine:
        return self

    def sums(self, products: Iterable[Product], target: TargetSpec, folder: Path) -> StartsSums | None:
        return link_sums(products, target, folder)

    def trace(self, bundle: Path, part: Part, threads: int, see: See, step: Callable[[], object]) -> Floats:
        golden = read_golden(bundle)
        if part is Part.DECODE:
            with BundleDecoder.open(bundle, threads=threads) as decoder, decoder.trace(see):
                return decoder.decode(golden.latents)
        with Bundle.open(bundle, threads=threads) as opened, opened.trace(see):
            return opened.generate(golden.noise, golden.cond, golden.uncond, lambda *_: step())

    def verify(self, bundle: Path, threads: int) -> None:
        with Bundle.open(bundle, threads=threads) as opened:
            opened.verify()


@dataclass(frozen=True)
class Emulated:
    """qemu, running a program that the libraries are part of; `prepared` makes it."""

    emulator: Emulator
    program: Path | None = None
    whole = True
    loads_files = False

    @property
    def command(self) -> tuple[str, ...]:
        return self.emulator.command

    def describe(self) -> str:
        return self.emulator.describe()

    def prepared(self, folder: Path, link: Link) -> Machine:
        link(TRACE_PROGRAM, folder / "trace")
        return replace(self, program=folder / "trace")

    def sums(self, products: Iterable[Product], target: TargetSpec, folder: Path) -> StartsSums | None:
        return link_sums(products, target, folder, self.command)

    def trace(self, bundle: Path, part: Part, threads: int, see: See, step: Callable[[], object]) -> Floats:
        return run_emulated(EmulatedRun(self.emulator, self._program(), bundle, threads, part), see, step)

    def verify(self, bundle: Path, threads: int) -> None:
        latents = self.trace(bundle, Part.GENERATE, threads, id, lambda: None)
        if latents.tobytes() != read_golden(bundle).latents.tobytes():
            raise BuildError(f"{self.describe()}: expected the golden latents of {bundle}, got others; report this")

    def _program(self) -> Path:
        if self.program is None:
            raise BuildError(f"{self.describe()}: expected the program of a bundle, got none; call prepared first")
        return self.program


def _this_process(target: TargetSpec) -> Machine | None:
    return ThisProcess() if target.triple.startswith(f"{platform.machine()}-") else None


def _emulated(target: TargetSpec) -> Machine | None:
    return Emulated(find_emulator(target)) if target.triple.split("-")[0] in EMULATED else None


MACHINES: tuple[Callable[[TargetSpec], Machine | None], ...] = (_this_process, _emulated)
"""Each gives its machine for a target that runs there, None for another; the first that does is taken."""


def machine_of(target: TargetSpec) -> Machine:
    """The machine that bundles for ``target`` are compared on.

    Raises BuildError when there is none for its architecture, or what it needs is not installed.
    """
    for row in MACHINES:
        if (machine := row(target)) is not None:
            return machine
    raise BuildError(
        f"target {target.name}: expected an architecture that can be checked here, this machine's own or "
        f"{', '.join(EMULATED)} under qemu, got {target.triple}; no bundle is written unchecked: compile on such "
        "a machine, or with --check none"
    )
