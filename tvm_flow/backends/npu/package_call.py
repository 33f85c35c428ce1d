"""What a package says of a call, whatever its device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageCall:
    """A call of ``kernel``, by its region's name; codes of its first input and its output times scales are values."""

    kernel: str
    region: str
    step: int
    branch: int
    input_scale: float
    output_scale: float
