"""Every error of the package can be caught at once, and says what it means."""

from __future__ import annotations

import inspect

import pytest

from tvm_flow import errors
from tvm_flow.errors import TvmFlowError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", KINDS)
def test_has_one_base_and_a_docstring(kind: type[Exception]) -> None:
    assert issubclass(kind, TvmFlowError)
    assert str(kind.__doc__).strip().endswith(".")
    assert str(kind("which: expected this, got that; do so")) == "which: expected this, got that; do so"


def test_none_is_a_builtin_that_other_code_catches() -> None:
    """`except ValueError` of a library in between must not swallow one."""
    for kind in KINDS:
        assert not issubclass(kind, ValueError | OSError | RuntimeError | KeyError | TypeError)
    assert len(KINDS) >= 14
