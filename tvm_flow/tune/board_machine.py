"""A board as a machine that bundles are compared on (`tvm_flow.check.machines`): ``tvm-flow compile --check-on``.

One session serves a whole compilation, so that weights go over once; whoever makes one closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tvm_flow.backends.cpu.packing import Product
from tvm_flow.check.machines import Link, See
from tvm_flow.check.parts import Part
from tvm_flow.check.sums import StartsSums, compile_sums, fused, without_epilogue
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.plan.folds import Floats
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_bundle import BoardBundles, BoardRun, link_checker
from tvm_flow.tune.board_check import fingerprint, require_target
from tvm_flow.tune.board_program import link_board
from tvm_flow.tune.rounds import NoTimeError


@dataclass
class BoardMachine:
    """``board``, which has to be ``target``'s; see `tvm_flow.check.machines.Machine` for what it answers."""

    board: Board
    target: TargetSpec
    progress: bool = True
    command: tuple[str, ...] = ()
    whole: bool = False
    loads_files: bool = True
    cores: int = 0
    """That its system says it has, once it is connected."""
    _session: BoardBundles | None = field(default=None, repr=False)

    def describe(self) -> str:
        """For reports."""
        return f"board {self.board}"

    def prepared(self, folder: Path, _link: Link) -> BoardMachine:
        self.connect(folder)
        return self

    def connect(self, folder: Path) -> None:
        """Make what it runs in ``folder``; raises BuildError when no board answers that has the target's features."""
        with _faults():
            self._session = BoardBundles(self.board, link_checker(self.target, folder), self.progress)
            found = fingerprint(self._session.read, self.target)
        require_target(str(self.board), found, self.target)
        self.cores = found.cores

    def sums(self, products: Iterable[Product], target: TargetSpec, folder: Path) -> StartsSums | None:
        chosen = fused(products)
        if not chosen:
            return None
        names = compile_sums(chosen, target, folder / f"{_SUMS}.o")
        return _BoardSums(self.session, link_board(names, target, folder, [_SUMS]), chosen)

    def trace(self, bundle: Path, part: Part, threads: int, see: See, step: Callable[[], object]) -> Floats:
        with _faults():
            return self.session.run(BoardRun(bundle, part, threads, self.target.name), see, step)

    def verify(self, bundle: Path, threads: int) -> None:
        self.trace(bundle, Part.VERIFY, threads, id, lambda: None)

    def close(self) -> None:
        """Give the board back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def session(self) -> BoardBundles:
        """Raises BuildError before `prepared`."""
        if self._session is None:
            raise BuildError(f"{self.describe()}: expected a session, got none; call prepared first")
        return self._session


_SUMS = "sums"


@dataclass(frozen=True)
class _BoardSums:
    """Products of a library on the board; their kernels need no more than the session."""

    session: BoardBundles
    library: Path
    products: tuple[Product, ...]

    @contextmanager
    def start(self) -> Iterator[_BoardSums]:
        with _faults():
            self.session.load_sums(self.library)
        yield self

    def accumulate(self, product: Product, x: Array, packed: Array) -> Array:
        position = self.products.index(without_epilogue(product))
        operands = (np.ascontiguousarray(x), np.ascontiguousarray(packed))
        with _faults():
            return self.session.sums(position, *operands, (product.m, product.n))


@contextmanager
def _faults() -> Iterator[None]:
    """What becomes of a board is an error of the command."""
    try:
        yield
    except NoTimeError as error:
        raise BuildError(f"{error}; check the board, its server and its tracker, then run the same again") from error
