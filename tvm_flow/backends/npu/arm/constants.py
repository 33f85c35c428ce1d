"""Constants as TOSA graphs read them: weights of CONV2D, and integers made of our float scales.

A linear with GELU and requantization has float constants: the accumulator's scale a [N], the bias b [N], the gain g [N]
of the next layer's input (smoothing), that input's scale s. With the unit u = 2^-11 of the 16-bit codes between:

    biased sum      sum_k x w + rint(b / a) + 2^30       2^30 keeps a step table's bits those of finite floats
    to 16 bits      a / u                                codes of [-16, 16), beyond which GELU is 0 or x
    from TABLE      (u / 2^7) g / s                      TABLE's results have 7 bits more

A value beyond 16 would be cut off before the table, so 127.5 s / g, from where int8 saturates anyway, must be below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvm_flow.errors import QuantizeError
from tvm_flow.graph.constants import register_rule
from tvm_flow.numerics.integer_tables import UNIT
from tvm_flow.numerics.rescale import Array, multiplier_and_shift

OFFSET = 1 << 30
"""Added to biases; the graph takes it off again."""
REACH = UNIT * (1 << 15)
_TABLE_BITS = 7


@dataclass(frozen=True)
class Conv1x1:
    """A matrix [K, N] as the weights [N, 1, 1, K] of a CONV2D."""

    rule: ClassVar[str] = "npu_arm_conv1x1"
    options: ClassVar[tuple[int, ...]] = ()

    def shape(self, plain: tuple[int, ...]) -> tuple[int, ...]:
        """Of the packed matrix."""
        k, n = plain
        return (n, 1, 1, k)

    def pack(self, plain: Array) -> Array:
        """See `tvm_flow.backends.packed.Layout`."""
        return np.ascontiguousarray(plain.T).reshape(self.shape(plain.shape))

    def unpack(self, packed: Array, plain: tuple[int, ...]) -> Array:
        """See `tvm_flow.backends.packed.Layout`."""
        k, n = plain
        return np.ascontiguousarray(packed.reshape(n, k).T)


CONV1X1 = Conv1x1()


def biased(bias: Array, scale: Array, depth: int) -> Array:
    """int32 [N]: ``bias`` in units of the accumulator, plus `OFFSET`.

    Raises QuantizeError where sums of ``depth`` products and the bias could leave the 30 bits that are left.
    """
    whole = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    most = float(np.abs(whole).max(initial=0.0)) + depth * 128 * 128
    if not most < OFFSET:
        raise QuantizeError(f"bias: expected sums below 2^30, got up to {most:.3g}; keep this layer in float")
    return (whole + OFFSET).astype(np.int32)


def _before(scale: Array, depth: int) -> tuple[Array, Array]:
    multiplier, shift = multiplier_and_shift(scale.astype(np.float64) / UNIT)
    if (depth * 128.0 * 128.0 * 2 >= np.exp2(shift.astype(np.float64) - 1)).any():
        raise QuantizeError(
            f"scale: expected accumulators of less than 2^(shift - 1) at depth {depth}, got a scale of {scale.max()}; "
            "keep this layer in float"
        )
    return multiplier, shift


def _after(gain: Array, scale: Array) -> tuple[Array, Array]:
    step = scale.astype(np.float64) / gain.astype(np.float64)
    if not (step > 0).all() or 127.5 * float(step.max()) >= REACH:
        raise QuantizeError(
            f"GELU: expected codes that saturate below {REACH}, got steps of {step.min():.3g} to {step.max():.3g}; "
            "keep this layer in float"
        )
    return multiplier_and_shift(UNIT / (1 << _TABLE_BITS) / step)


BIASED, BEFORE, BEFORE_SHIFT = "npu_arm_biased", "npu_arm_before", "npu_arm_before_shift"
AFTER, AFTER_SHIFT = "npu_arm_after", "npu_arm_after_shift"
register_rule(Conv1x1.rule, CONV1X1.pack)
register_rule(BIASED, biased, "int32")
register_rule(BEFORE, lambda scale, depth: _before(scale, depth)[0], "int32")
register_rule(BEFORE_SHIFT, lambda scale, depth: _before(scale, depth)[1], "int8")
register_rule(AFTER, lambda gain, scale: _after(gain, scale)[0], "int32")
register_rule(AFTER_SHIFT, lambda gain, scale: _after(gain, scale)[1], "int8")
