"""Bound TIR to what is printed: flat buffers in their scopes, barriers, 32-bit indices.

The passes are TVM's own, in the order of its pipeline for devices; what concerns hosts, vectors and asynchronous copies
is left out. The function is never split into a host's and a device's part: its loops over threads are what is printed.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

from tvm_flow.graph.types import PrimFunc

_BLOCKS, _FLAT = s_tir.transform, tirx.transform
PASSES: tuple[Any, ...] = (
    _BLOCKS.CanonicalizeLoop(),
    _BLOCKS.LowerCrossThreadReduction(),
    _BLOCKS.LowerInitBlock(),
    _BLOCKS.PlanAndUpdateBufferAllocationLocation(),
    _BLOCKS.ConvertBlocksToOpaque(),
    _BLOCKS.LiftThreadBinding(),
    _BLOCKS.CompactBufferAllocation(),
    _BLOCKS.UnifyThreadBinding(),
    _BLOCKS.LowerMatchBuffer(),
    _BLOCKS.StmtSimplify(),
    _BLOCKS.LowerOpaqueBlock(),
    _FLAT.FlattenBuffer(),
    _FLAT.NarrowDataType(32),
    _FLAT.StorageRewrite(),
    _FLAT.StmtSimplify(),
    _FLAT.RemoveNoOp(),
    _BLOCKS.RewriteUnsafeSelect(),
    _BLOCKS.ThreadSync("shared"),
    _BLOCKS.LowerThreadAllreduce(),
    _FLAT.StmtSimplify(),
)
# One invocation is a "warp": sums over several go through shared memory, with no shuffles and on every device.
_DEVICE = tvm.target.Target({"kind": "vulkan", "thread_warp_size": 1, "max_num_threads": 1024})


def lowered(function: PrimFunc) -> PrimFunc:
    """``function`` with its loops bound, after `PASSES`."""
    module = tvm.IRModule({"main": function.with_attr("target", _DEVICE)})
    for run in PASSES:
        module = run(module)
    return module["main"]
