"""The tuning space of integer products for MetaSchedule: every tile that the instruction set's intrinsic allows.

A candidate differs from the default in how rows are divided: those of a register tile, and the tiles that share a block
of weights. Columns stay as the weights are packed, and every candidate keeps the intrinsic, so none is slow beyond
reason and all give the same bits. MetaSchedule's own rules are left out: MultiLevelTilingWithIntrin would tile K, whose
sums must stay in registers, and knows neither packed weights nor epilogues.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tvm_flow.backends.cpu.gemm import tile_gemm
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import SampledTiling
from tvm_flow.graph.types import Schedule


def skip_tvms_intrinsics() -> None:
    """Let MetaSchedule start without parsing TVM's own tensor intrinsics, of which these products use none.

    Parsing them takes 50 s of processor time here (2026-11-22), once in every process that searches or builds. It has
    no effect in a process that has them already; one that calls this cannot use them later.
    """
    sys.modules.setdefault("tvm.s_tir.tensor_intrin", ModuleType("tvm.s_tir.tensor_intrin"))


def gemm_space(m: int, k: int, n: int, isa: Isa) -> Any:
    """Space generator for what `tvm_flow.backends.cpu.gemm.schedule_gemm` takes, [m, k] times [k, n] on ``isa``.

    Its schedules' decisions can be mutated by an evolutionary search. Importing MetaSchedule takes some seconds, so it
    is done here.
    """
    from tvm.s_tir import meta_schedule

    def schedule(candidate: Schedule) -> None:
        tile_gemm(candidate, m, k, n, isa, SampledTiling())

    mutators = {meta_schedule.mutator.MutateTileSize(): 1.0}
    return meta_schedule.space_generator.ScheduleFn(schedule, sch_rules=[], postprocs=[], mutator_probs=mutators)
