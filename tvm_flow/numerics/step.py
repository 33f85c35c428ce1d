"""The integer reference executor of a whole step graph.

Kernels run in program order on the results of the reference itself: integers exact, floats computed in float64 and
rounded to float32 once per kernel. A compiled library is compared kernel by kernel instead, on its own inputs, because
two float evaluations of a whole step drift apart where a value lies near a rounding tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.reference import Array, execute


class Call(Protocol):
    """One kernel call, by tensor names."""

    @property
    def kernel(self) -> str: ...

    @property
    def args(self) -> tuple[str, ...]: ...

    @property
    def output(self) -> str: ...


def execute_step(kernels: Mapping[str, Any], calls: Iterable[Call], tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of the program by name, given its inputs and constants in ``tensors``.

    Raises BitExactError for an operator that the reference does not know.
    """
    env = dict(tensors)
    for call in calls:
        result = execute(kernels[call.kernel], [env[name] for name in call.args])
        env[call.output] = result.value.astype(np.float32) if isinstance(result, Bounded) else np.asarray(result)
    return env
