"""Who may use a handle: one call at a time, and none once it closes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tvm_flow.causes import Cause
from tvm_flow.errors import RuntimeFailure

ASK_AGAIN = 0.02
"""Seconds."""


class Turn:
    """A context manager around each call on the handle of ``directory``, a ``name`` such as "decoder"."""

    def __init__(self, directory: Path, name: str) -> None:
        self.closing = False
        self._directory, self._name = directory, name
        self._freed = False
        self._owner: int | None = None
        self._changed = threading.Condition()

    def __enter__(self) -> Turn:
        """Raises RuntimeFailure while another call runs, or when the handle is closed."""
        with self._changed:
            self.require_open()
            if self._owner is not None:
                raise RuntimeFailure(
                    f"{self._directory}: expected one call at a time, got a second; open it twice", Cause.BUSY
                )
            self._owner = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._owner = None
            self._changed.notify_all()

    def require_open(self) -> None:
        """Raises RuntimeFailure when the handle is closed or about to be."""
        if self.closing:
            raise RuntimeFailure(f"{self._directory}: expected an open {self._name}, got a closed one; open it again")

    def close(self, free: Callable[[], object], cancel: Callable[[], object] = lambda: None) -> None:
        """Refuse calls from now on, wait for the one under way, then ``free`` once, however often this is called.

        The call sees ``closing`` and is asked by ``cancel`` to end early, again and again: one that has its turn but
        has not begun would forget it. Raises RuntimeFailure when it is the caller's own: it would wait
        for itself.
        """
        with self._changed:
            if self._owner == threading.get_ident():
                raise RuntimeFailure(
                    f"{self._directory}: expected close after the call, got it from a callback of the call; raise "
                    "there to stop it"
                )
            self.closing = True
            while self._owner is not None:
                cancel()
                self._changed.wait(ASK_AGAIN)
            if not self._freed:
                self._freed = True
                free()
