"""Integer matrix kernels, one file per instruction set: a tensor intrinsic, its packing, and its default tile."""

from tvm_flow.backends.cpu import arm, generic, x86
from tvm_flow.backends.cpu.isa import Isa, choose_isa

__all__ = ["Isa", "arm", "choose_isa", "generic", "x86"]
