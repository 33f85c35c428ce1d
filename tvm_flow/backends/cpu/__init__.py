"""Integer matrix kernels, one file per instruction set: a tensor intrinsic, its packing, and its default tile."""

from tvm_flow.backends.cpu import arm, generic, x86
from tvm_flow.backends.cpu.chosen import ChosenKernel, chosen_kernels
from tvm_flow.backends.cpu.isa import Isa, choose_isa

__all__ = ["ChosenKernel", "Isa", "arm", "choose_isa", "chosen_kernels", "generic", "x86"]
