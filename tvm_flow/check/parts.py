"""What a bundle can do, as far as it is run and compared."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """A run of a bundle on its golden input; the words are those of runtime/emulate/trace_records.h."""

    GENERATE = "generate"
    """Noise to latents: every step, with its prologue."""
    DECODE = "decode"
    """Latents to frames."""
    TIME = "time"
    """As `GENERATE`; of every call only when it began and ended, in ns, and its device's name."""
    VERIFY = "verify"
    """The golden output, and the frames if the bundle has a decoder, compared there; calls as of `TIME`."""
