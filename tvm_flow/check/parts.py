"""What a bundle can do, as far as it is run and compared."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """A run of a bundle on its golden input; the words are those of runtime/emulate/trace.c."""

    GENERATE = "generate"
    """Noise to latents: every step, with its prologue."""
    DECODE = "decode"
    """Latents to frames."""
