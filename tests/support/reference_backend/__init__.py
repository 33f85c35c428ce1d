"""A second backend, to prove that one is one folder: kernels in plain C, on a "device" with memory of its own.

    backend.py   what it offers, and its artifacts
    emit.py      a kernel's Relax function as C, one loop nest per operator
    device.c     its part of the runtime

It claims every other kernel of those that it can say in C, so that a program crosses the border often.
"""

from support.reference_backend.backend import NAME, ReferenceBackend, registered

__all__ = ["NAME", "ReferenceBackend", "registered"]
