"""What an instruction computes that adds products of codes into one lane per column; the pattern TVM looks for."""

# TVM's script parser turns this function into its own object, which a type checker cannot follow.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from tvm.script import tirx as T

from tvm_flow.graph.types import PrimFunc


def dot_description(lanes: int, depth: int, offset: int = 0, rows: str = "int8") -> PrimFunc:
    """TIR of C[i] += sum_k X[k] (W[i, k] + offset): X [depth] of ``rows``, W int8 [lanes, depth], C int32 [lanes]."""

    @T.prim_func(s_tir=True)
    def description(x: T.handle, w: T.handle, c: T.handle) -> None:
        X = T.match_buffer(x, (depth,), rows, offset_factor=1)
        W = T.match_buffer(w, (lanes, depth), "int8", offset_factor=1)
        C = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:lanes], X[0:depth], W[0:lanes, 0:depth])
            T.writes(C[0:lanes])
            for i, k in T.grid(lanes, depth):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.cast(X[vk], "int32") * (T.cast(W[vi, vk], "int32") + offset)

    return description
