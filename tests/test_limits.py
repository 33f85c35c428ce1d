"""One statement of each limit: what Python refuses is what the C runtime refuses."""

from __future__ import annotations

from tvm_flow import limits


def test_every_limit_of_the_header_is_read() -> None:
    assert (limits.MAX_STEPS, limits.MAX_ELEMENTS, limits.MAX_CFG_SCALE) == (1 << 16, 1 << 28, 100)


def test_no_other_source_of_the_runtime_states_one() -> None:
    for source in limits.HEADER.parent.glob("*.c"):
        assert "MAX_STEPS =" not in source.read_text() and "MAX_ELEMENTS =" not in source.read_text(), source
