"""What a candidate has to give to be timed at all: the default's output, or one as right as that is.

The default is compared with the reference, as the compile command does it (`tvm_flow.check.calls`), and a candidate
with the default, bit for bit. One that adds numbers up in another order (`Choice.reorders`) may give other bits: its
output is compared with the reference as the default's is, whose bound holds for every order of a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_flow.check.calls import ExactnessReport, require_expected
from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import Array
from tvm_flow.numerics.reference import Value
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.workloads import choices_of

SEEDS = 2
"""Arguments that are drawn, one after another, until the default agrees with the reference."""


@dataclass(frozen=True)
class Right:
    """``args`` of a call, what the reference allows, and the default's ``output``, which is within that."""

    args: Sequence[Array]
    expected: Value
    output: bytes

    def why_not(self, candidate: str, output: bytes) -> str:
        """Why ``candidate``, which gave ``output``, must not win; "" where it may."""
        if output == self.output:
            return ""
        if not any(choice.reorders for choice in choices_of("", candidate).values()):
            return "its output is not the default's, which the reference agrees with"
        try:
            _compare(self.expected, self.args, output)
        except BitExactError as error:
            return f"its output is not within the default's bound: {error}"
        return ""


def first_right(kernel: TunedKernel, run: Callable[[Sequence[Array]], bytes]) -> Right:
    """Drawn arguments with which the default, as ``run`` runs it, agrees with the reference.

    Raises BitExactError where it does with none.
    """
    for seed in range(SEEDS):
        args = kernel.arguments(seed)
        output = run(args)
        expected = kernel.packed.expected(kernel.kernel, list(args[:-1]))
        try:
            _compare(expected, args, output)
            return Right(args, expected, output)
        except BitExactError as error:
            wrong = error
    raise BitExactError(f"the default: {wrong}")


def _compare(expected: Value, args: Sequence[Array], output: bytes) -> None:
    got = np.frombuffer(output, args[-1].dtype)
    if got.size != args[-1].size:
        raise BitExactError(f"output: expected {args[-1].nbytes} bytes, got {len(output)}")
    require_expected("tune", expected, got.reshape(args[-1].shape), ExactnessReport())
