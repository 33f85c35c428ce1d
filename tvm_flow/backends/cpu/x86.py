"""x86 int8 products that never saturate: sign-extend to int16, multiply and add adjacent pairs (vpmaddwd).

|x| <= 128, so a pair's sum is at most 2 * 128 * 128 < 2^31: exact. Rows are widened before, weights as they are read:
see `tvm_flow.backends.cpu.widened`. The tempting vpmaddubsw adds pairs in int16 and
saturates, which is why it is not here.

AVX512-VNNI and AVX-VNNI multiply four unsigned by four signed codes and add them to int32 in one instruction
(vpdpbusd), without saturation. Its unsigned operand is a weight + 128; `tvm_flow.backends.cpu.biased` takes the 128 out
again.
"""

# TVM's script parser reads these functions' annotations as buffers, which is no type to a type checker.
# mypy: disable-error-code="valid-type,untyped-decorator"

from __future__ import annotations

import functools

from tvm.script import tirx as T

from tvm_flow.backends.cpu.intrinsic import dot_description
from tvm_flow.backends.cpu.isa import Isa, Sums, register_isa


@functools.cache
def _register_maddwd(lanes: int, intrinsic: str) -> str:
    from tvm.s_tir import TensorIntrin
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    codes, pairs, sums = f"int8x{2 * lanes}", f"int16x{2 * lanes}", f"int32x{lanes}"
    identifier = llvm_lookup_intrinsic_id(intrinsic)

    @T.prim_func(s_tir=True)
    def implementation(
        X: T.Buffer((2,), "int16", offset_factor=1),
        W: T.Buffer((lanes, 2), "int8", offset_factor=1),
        C: T.Buffer((lanes,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], X[0:2], W[0:lanes, 0:2])
            T.writes(C[0:lanes])
            pair = T.reinterpret(X.vload([0], "int16x2"), dtype="int32")
            row = T.reinterpret(T.broadcast(pair, lanes), dtype=pairs)
            column = T.cast(W.vload([0, 0], dtype=codes), pairs)
            C[T.ramp(T.int32(0), 1, lanes)] = C.vload([0], dtype=sums) + T.call_llvm_pure_intrin(
                T.uint32(identifier), row, column, dtype=sums
            )

    name = f"tvm_flow.maddwd_{lanes}"
    TensorIntrin.register(name, dot_description(lanes, 2, rows="int16"), implementation, override=True)
    return name


AVX512BW = register_isa(
    Isa(
        name="avx512bw",
        features=frozenset({"avx512bw", "avx512vl"}),
        lanes=16,
        depth=2,
        rows=8,
        vectors=2,
        register=lambda: _register_maddwd(16, "llvm.x86.avx512.pmaddw.d.512"),
        sums=Sums.WIDENED,
    )
)
AVX2 = register_isa(
    Isa(
        name="avx2",
        features=frozenset({"avx2"}),
        lanes=8,
        depth=2,
        rows=4,
        vectors=2,
        register=lambda: _register_maddwd(8, "llvm.x86.avx2.pmadd.wd"),
        sums=Sums.WIDENED,
    )
)
SSE2 = register_isa(
    Isa(
        name="sse2",
        features=frozenset({"sse2"}),
        lanes=4,
        depth=2,
        rows=4,
        vectors=2,
        register=lambda: _register_maddwd(4, "llvm.x86.sse2.pmadd.wd"),
        sums=Sums.WIDENED,
    )
)


@functools.cache
def _register_dpbusd(lanes: int, intrinsic: str) -> str:
    from tvm.s_tir import TensorIntrin
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    codes, sums = f"int8x{4 * lanes}", f"int32x{lanes}"
    identifier = llvm_lookup_intrinsic_id(intrinsic)

    @T.prim_func(s_tir=True)
    def implementation(
        X: T.Buffer((4,), "int8", offset_factor=1),
        W: T.Buffer((lanes, 4), "int8", offset_factor=1),
        C: T.Buffer((lanes,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], X[0:4], W[0:lanes, 0:4])
            T.writes(C[0:lanes])
            column = T.reinterpret(W.vload([0, 0], dtype=codes), dtype=sums)
            top_bits = T.broadcast(T.int32(-0x7F7F7F80), lanes)  # 0x80 in every byte
            row = T.broadcast(T.reinterpret(X.vload([0], "int8x4"), dtype="int32"), lanes)
            C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.uint32(identifier),
                C.vload([0], dtype=sums),
                T.reinterpret(T.bitwise_xor(column, top_bits), dtype=codes),
                T.reinterpret(row, dtype=codes),
                dtype=sums,
            )

    name = f"tvm_flow.dpbusd_{lanes}"
    TensorIntrin.register(name, dot_description(lanes, 4, 128), implementation, override=True)
    return name


AVX512VNNI = register_isa(
    Isa(
        name="avx512vnni",
        features=frozenset({"avx512bw", "avx512vl", "avx512vnni"}),
        lanes=16,
        depth=4,
        rows=8,
        vectors=3,
        register=lambda: _register_dpbusd(16, "llvm.x86.avx512.vpdpbusd.512"),
        sums=Sums.BIASED,
        fallback=AVX512BW,
    )
)
AVXVNNI = register_isa(
    Isa(
        name="avxvnni",
        features=frozenset({"avx2", "avxvnni"}),
        lanes=8,
        depth=4,
        rows=6,
        vectors=2,
        register=lambda: _register_dpbusd(8, "llvm.x86.avx512.vpdpbusd.256"),
        sums=Sums.BIASED,
        fallback=AVX2,
    )
)
"""For client cores without AVX-512 (Alder Lake and its successors)."""
