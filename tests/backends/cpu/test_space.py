"""The tuning space holds different kernels that all give the same bits, and a search of TVM's can walk it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from support.execution import HOST, call_kernel, compile_functions

from tvm_flow.backends.cpu import arm
from tvm_flow.backends.cpu.gemm import gemm_definition
from tvm_flow.backends.cpu.isa import Isa, registered_isas
from tvm_flow.backends.cpu.space import gemm_space, skip_tvms_intrinsics
from tvm_flow.backends.cpu.tiling import rows_of_a_tile
from tvm_flow.graph.constants import RULES

M, K, N = 48, 64, 192
RUNNABLE = [isa for isa in registered_isas() if isa.features <= HOST.features]


def candidates(isa: Isa, count: int, target: Any) -> list[Any]:
    """Schedules that TVM's own search would measure first."""
    skip_tvms_intrinsics()
    from tvm.s_tir import meta_schedule as ms

    module = tvm.IRModule({"main": gemm_definition(M, K, N, isa).with_attr("global_symbol", "main")})
    context = ms.TuneContext(
        mod=module,
        target=target,
        space_generator=gemm_space(M, K, N, isa),
        search_strategy=ms.search_strategy.EvolutionarySearch(population_size=count, init_min_unmeasured=count),
        rand_state=7,
        num_threads=1,
    )
    strategy = context.search_strategy
    strategy.pre_tuning(
        count, count, context.generate_design_space(), ms.database.MemoryDatabase(), ms.cost_model.RandomModel()
    )
    found = strategy.generate_measure_candidates()
    strategy.post_tuning()
    return [candidate.sch for candidate in found]


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_every_candidate_gives_the_same_bits(isa: Isa) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (M, K)).astype(np.int8), rng.integers(-128, 128, (K, N)).astype(np.int8)
    found = candidates(isa, 6, HOST.tvm())
    functions = {f"c{i}": s.mod["main"].with_attr("global_symbol", f"c{i}") for i, s in enumerate(found)}
    assert len({str(f).split("\n", 6)[-1] for f in functions.values()}) > 2, "different kernels"
    module = compile_functions(functions)
    packed = RULES["pack_columns"](w, isa.columns, isa.depth)
    for name in functions:
        got = call_kernel(module, name, [x, packed], (M, N), "int32")
        assert np.array_equal(got, x.astype(np.int64) @ w.astype(np.int64)), name


@pytest.mark.parametrize("isa", [isa for isa in registered_isas() if isa.register], ids=lambda isa: isa.name)
def test_every_candidate_uses_the_instruction(isa: Isa) -> None:
    """For targets that are not here, too."""
    features = "+v8.6a" if isa in (arm.NEON, arm.SDOT, arm.SMMLA) else ""
    target = tvm.target.Target(
        {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": [features]} if features else "llvm"
    )
    for schedule in candidates(isa, 4, target):
        assert "call_llvm_pure_intrin" in str(schedule.mod["main"])


def test_rows_of_a_tile_divide_and_fit() -> None:
    for isa in registered_isas():
        for m in (1, 2, 7, 30, 48):
            if isa.paired and m % 2:
                continue
            rows = rows_of_a_tile(m, isa)
            assert rows == sorted(rows) and rows
            assert all(m % r == 0 and r <= isa.rows and (r % 2 == 0 or not isa.paired) for r in rows)
