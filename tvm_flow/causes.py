"""Why a bundle, a file or a call was refused: one list for C and Python.

    try:
        Bundle.open(path)
    except TvmFlowError as error:
        if error.cause is Cause.TRUNCATED:
            fetch_again(path)

The list is that of the C header tvm_flow_cause.h, which says what each means; a test holds the two together.
"""

from __future__ import annotations

from enum import IntEnum


class Cause(IntEnum):
    """tvm_flow_cause; NONE is false: what is to be said stands in the message."""

    NONE = 0
    ABSENT = 1
    TRUNCATED = 2
    CHANGED = 3
    WRONG_ARCHITECTURE = 4
    MISSING_FEATURE = 5
    WRONG_VERSION = 6
    FOREIGN_WEIGHTS = 7
    WRONG_STEP_TABLE = 8
    OUTSIDE = 9
    LINK = 10
    DEVICE = 11
    DUPLICATE_NAME = 12
    SIZE_OVERFLOW = 13
    NOT_FINITE = 14
    BAD_SIGNATURE = 15
    BUSY = 16
    NOEXEC = 17

    @property
    def words(self) -> str:
        """For people: "wrong step table"."""
        return self.name.lower().replace("_", " ")
