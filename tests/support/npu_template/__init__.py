"""A vendor of an NPU in the fewest lines: copy this folder, and `.github/CONTRIBUTING.md` says what to change.

    operators.py   patterns with their limits (the capability table), lowering, and what is missing, as a `Vendor`
    rounding.py    what the device computes, where it rounds by a rule of its own
    device.py      the vendor's language: here it is run by an interpreter in Python

The device has one unit: products of int8 codes by constant weights, shifted down to int8, ties upwards.
"""

from support.npu_template.device import run
from support.npu_template.operators import TEMPLATE

__all__ = ["TEMPLATE", "run"]
