"""AArch64 int8 products, exact by definition of the instructions.

SDOT adds four int8 products to each of four int32 lanes. Its by-element form takes four codes of a row from a register
that holds sixteen, so a tile loads each row once for four steps along K.

A Cortex-A55 gets 0.76 of an SDOT a cycle by llvm-mca 19.1.7. Its model starts nothing of fewer than four cycles beside
an SDOT, so a 128-bit load costs one, a pair two: 16 loads for the 64 products of 8 x 2 sums leave at most 0.80 (0.79
without pairs), and 24 sums, the most that 32 registers could hold, 0.83. Halves of 64 bits with inserts, which other
projects take for this core, come to 0.43 there, ordered by hand.

SMMLA multiplies 2x8 by 8x2 codes into a 2x2 block: two rows of X side by side in one register, two columns of W in
another. Rows are laid side by side before (`tvm_flow.backends.cpu.pairs`), so that a tile has nothing but loads and
products: by llvm-mca 19.1.7 its loop has 0.99 of the peak of Neoverse N2 and 0.98 of V1's, 0.88 and 0.87 where every
tile moved them (a move for eight products on the same pipes: at most 0.89). The tile is wide and flat; as wide as
leaves registers for an epilogue's constants, or sums are spilled in the inner loop.

Without either, SMULL multiplies eight codes to int16, where |x w| <= 128 * 128 = 16384 fits, and SADALP adds the
products in pairs to int32. SMLAL on codes adds two products in int16: -128 * -128 twice is 32768, one too many, but
weights above -128 leave |x w + x' w'| <= 2 * 128 * 127 = 32512. A matrix without a -128, which is looked for when
weights are packed, gets the kernel with SMLAL, any other the one without.

That kernel executes SMULL, SMLAL and SADALP for 16 products, 0.1875 an instruction each, which no order of loads can
lessen: a third product does not fit int16, and int16 operands would take 0.25. Codes along K fill both operands, so
that nothing is broadcast: a tile of 4 x 4 sums reads 8 registers for 48 instructions. The multiplier of a Cortex-A72
starts one of 8 products a cycle, so 8 is its peak: by llvm-mca 19.1.7 the loop has 7.97, that of SMULL alone 6.75, the
generic one 4.06.
"""

# TVM's script parser turns these functions into its own objects, which a type checker cannot follow.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import functools

from tvm.script import tirx as T

from tvm_flow.backends.cpu.intrinsic import dot_description
from tvm_flow.backends.cpu.isa import Isa, Sums, register_isa


@functools.cache
def _register_smull() -> str:
    from tvm.s_tir import TensorIntrin
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    identifier = llvm_lookup_intrinsic_id("llvm.aarch64.neon.saddlp")

    @T.prim_func(s_tir=True)
    def implementation(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (2,), "int8", offset_factor=1)
        W = T.match_buffer(w, (4, 2), "int8", offset_factor=1)
        C = T.match_buffer(c, (4,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:4], X[0:2], W[0:4, 0:2])
            T.writes(C[0:4])
            pair = T.reinterpret(T.broadcast(T.reinterpret(X.vload([0], "int8x2"), dtype="int16"), 4), dtype="int8x8")
            products = T.cast(pair, "int16x8") * T.cast(W.vload([0, 0], dtype="int8x8"), "int16x8")
            C[T.ramp(T.int32(0), 1, 4)] = C.vload([0], dtype="int32x4") + T.call_llvm_pure_intrin(
                T.uint32(identifier), products, dtype="int32x4"
            )

    name = "tvm_flow.smull"
    TensorIntrin.register(name, dot_description(4, 2), implementation, override=True)
    return name


@functools.cache
def _register_smlal() -> str:
    from tvm.s_tir import TensorIntrin
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    identifier = llvm_lookup_intrinsic_id("llvm.aarch64.neon.saddlp")

    @T.prim_func(s_tir=True)
    def description(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (16,), "int8", offset_factor=1)
        W = T.match_buffer(w, (16,), "int8", offset_factor=1)
        C = T.match_buffer(c, (4,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:4], X[0:16], W[0:16])
            T.writes(C[0:4])
            for h, i, k in T.grid(2, 4, 2):
                with T.sblock("update"):
                    vi, vh, vk = T.axis.remap("SRR", [i, h, k])
                    C[vi] = C[vi] + T.cast(X[vh * 8 + vi * 2 + vk], "int32") * T.cast(W[vh * 8 + vi * 2 + vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (16,), "int8", offset_factor=1)
        W = T.match_buffer(w, (16,), "int8", offset_factor=1)
        C = T.match_buffer(c, (4,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:4], X[0:16], W[0:16])
            T.writes(C[0:4])
            row, column = X.vload([0], "int8x16"), W.vload([0], "int8x16")
            lower = T.cast(T.Shuffle([row], list(range(8))), "int16x8") * T.cast(
                T.Shuffle([column], list(range(8))), "int16x8"
            )
            upper = T.cast(T.Shuffle([row], list(range(8, 16))), "int16x8") * T.cast(
                T.Shuffle([column], list(range(8, 16))), "int16x8"
            )
            C[T.ramp(T.int32(0), 1, 4)] = C.vload([0], dtype="int32x4") + T.call_llvm_pure_intrin(
                T.uint32(identifier), lower + upper, dtype="int32x4"
            )

    name = "tvm_flow.smlal"
    TensorIntrin.register(name, description, implementation, override=True)
    return name


SMLAL = Isa(
    name="smlal",
    features=frozenset({"neon"}),
    lanes=1,
    depth=16,
    rows=4,
    vectors=4,
    register=_register_smlal,
    groups=2,
    sums=Sums.ACROSS,
)
"""Of `NEON`, for weights above -128."""

NEON = register_isa(
    Isa(
        name="neon",
        features=frozenset({"neon"}),
        lanes=4,
        depth=2,
        rows=4,
        vectors=4,
        register=_register_smull,
        bounded=SMLAL,
    )
)


@functools.cache
def _register_sdot() -> str:
    from tvm.s_tir import TensorIntrin
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    identifier = llvm_lookup_intrinsic_id("llvm.aarch64.neon.sdot")

    @T.prim_func(s_tir=True)
    def description(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (16,), "int8", offset_factor=1)
        W = T.match_buffer(w, (4, 4, 4), "int8", offset_factor=1, strides=[T.int32(), T.int32(), T.int32()])
        C = T.match_buffer(c, (4,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:4], X[0:16], W[0:4, 0:4, 0:4])
            T.writes(C[0:4])
            for g, i, k in T.grid(4, 4, 4):
                with T.sblock("update"):
                    vi, vg, vk = T.axis.remap("SRR", [i, g, k])
                    C[vi] = C[vi] + T.cast(X[vg * 4 + vk], "int32") * T.cast(W[vg, vi, vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (16,), "int8", offset_factor=1)
        W = T.match_buffer(w, (4, 4, 4), "int8", offset_factor=1, strides=[T.int32(), T.int32(), T.int32()])
        C = T.match_buffer(c, (4,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:4], X[0:16], W[0:4, 0:4, 0:4])
            T.writes(C[0:4])
            row = T.reinterpret(X.vload([0], "int8x16"), dtype="int32x4")
            for g in T.unroll(4):
                C[T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
                    T.uint32(identifier),
                    C.vload([0], dtype="int32x4"),
                    W.vload([g, 0, 0], dtype="int8x16"),
                    T.reinterpret(T.broadcast(T.Shuffle([row], [g]), 4), dtype="int8x16"),
                    dtype="int32x4",
                )

    name = "tvm_flow.sdot"
    TensorIntrin.register(name, description, implementation, override=True)
    return name


SDOT = register_isa(
    Isa(
        name="sdot",
        features=frozenset({"neon", "dotprod"}),
        lanes=4,
        depth=4,
        rows=8,
        vectors=2,
        register=_register_sdot,
        groups=4,
        fallback=NEON,
    )
)


@functools.cache
def _register_smmla() -> str:
    from tvm.s_tir import TensorIntrin
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    identifier = llvm_lookup_intrinsic_id("llvm.aarch64.neon.smmla")

    @T.prim_func(s_tir=True)
    def description(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (2, 2, 8), "int8", offset_factor=1, strides=[T.int32(), T.int32(), T.int32()])
        W = T.match_buffer(w, (2, 2, 8), "int8", offset_factor=1, strides=[T.int32(), T.int32(), T.int32()])
        C = T.match_buffer(c, (2, 2), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:2, 0:2], X[0:2, 0:2, 0:8], W[0:2, 0:2, 0:8])
            T.writes(C[0:2, 0:2])
            for g, a, b, k in T.grid(2, 2, 2, 8):
                with T.sblock("update"):
                    va, vb, vg, vk = T.axis.remap("SSRR", [a, b, g, k])
                    C[va, vb] = C[va, vb] + T.cast(X[vg, va, vk], "int32") * T.cast(W[vg, vb, vk], "int32")

    @T.prim_func(s_tir=True)
    def implementation(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (2, 2, 8), "int8", offset_factor=1, strides=[T.int32(), T.int32(), T.int32()])
        W = T.match_buffer(w, (2, 2, 8), "int8", offset_factor=1, strides=[T.int32(), T.int32(), T.int32()])
        C = T.match_buffer(c, (2, 2), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:2, 0:2], X[0:2, 0:2, 0:8], W[0:2, 0:2, 0:8])
            T.writes(C[0:2, 0:2])
            for g in T.unroll(2):
                C[0, T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
                    T.uint32(identifier),
                    C.vload([0, 0], dtype="int32x4"),
                    X.vload([g, 0, 0], dtype="int8x16"),
                    W.vload([g, 0, 0], dtype="int8x16"),
                    dtype="int32x4",
                )

    name = "tvm_flow.smmla"
    TensorIntrin.register(name, description, implementation, override=True)
    return name


SMMLA = register_isa(
    Isa(
        name="smmla",
        features=frozenset({"neon", "dotprod", "i8mm"}),  # SDOT takes over where it does not fit
        lanes=2,
        depth=8,
        rows=4,
        vectors=8,
        register=_register_smmla,
        groups=2,
        sums=Sums.PAIRED,
        fallback=SDOT,
    )
)
