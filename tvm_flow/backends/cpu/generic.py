"""Any target: the plain widening loop over 16 columns, which LLVM vectorises as it can."""

from tvm_flow.backends.cpu.isa import Isa, register_isa

GENERIC = register_isa(Isa(name="generic", features=frozenset(), lanes=16, depth=1, rows=4, vectors=1))
