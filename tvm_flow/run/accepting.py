"""Trust asked for while the C runtime opens a bundle, of the bytes that it opens: none is exchanged in between."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from tvm_flow.errors import NotSignedError, TvmFlowError
from tvm_flow.pack.trust import Trust, accept_file
from tvm_flow.run import native
from tvm_flow.run.status import MESSAGE_BYTES, SIGNATURE_FAULTS, CError, Status

if TYPE_CHECKING:
    from ctypes import _Pointer


class Acceptance:
    """``options.accept`` by ``trust``; lives as long as the handle, whose verify may ask again."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._callback = native.ACCEPT(self._accept)

    def set(self, options: native.COptions) -> None:
        """Ask for trust, and have the weights hashed where they are mapped."""
        options.accept = ctypes.cast(self._callback, ctypes.c_void_p)
        options.weights_checked = 0

    def _accept(self, _user: object, seen: _Pointer[native.CIdentity], error: _Pointer[CError]) -> int:
        identity = seen.contents
        try:
            if not identity.signature:
                raise NotSignedError("expected a signature, got none; sign the bundle (tvm-flow sign)")
            data = ctypes.string_at(identity.signature, identity.signature_bytes)
            accept_file(self._trust, data, identity.file.decode(), ctypes.string_at(identity.sha256, 32))
        except TvmFlowError as refused:
            error.contents.message = str(refused).encode()[: MESSAGE_BYTES - 1]
            faults = (status for status, kind in SIGNATURE_FAULTS.items() if isinstance(refused, kind))
            return next(faults, Status.WRONG_SCHEMA)
        return Status.OK
