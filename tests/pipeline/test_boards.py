"""The demo model's first two steps compiled for boards, each kernel call compared with exact integers under qemu.

One board for each kind of int8 kernel. zig builds its C library at the first run, which takes a minute.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.small_demo import STEPS, SmallDemo

from tvm_flow.check.conformance import run_checked
from tvm_flow.check.follow import FollowedRuns
from tvm_flow.check.machines import Machine
from tvm_flow.check.parts import Part
from tvm_flow.compile import command as compile_module
from tvm_flow.compile.options import CompileOptions
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_golden, verify_bundle
from tvm_flow.pipeline.stages import compile_stage

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")),
        reason="no qemu-aarch64: apt-get install qemu-user-static",
    ),
    pytest.mark.usefixtures("kernels_once"),
]
# Kernels, and qemu's core: a board's own where qemu models it, so that no newer instruction can slip in.
BOARDS = {"raspberry-pi-4": "cortex-a72", "raspberry-pi-5": "cortex-a76", "neoverse-n2": "max"}


@pytest.mark.parametrize(("board", "cpu"), BOARDS.items())
def test_boards_are_exact_and_threads_do_not_change_a_bit(
    board: str, cpu: str, demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threaded: list[bytes] = []

    def check_twice(machine: Machine, bundle: Path, check: FollowedRuns, *rest: Any) -> Any:
        if check.part is Part.GENERATE:
            threaded.append(machine.trace(bundle, check.part, 3, id, lambda: None).tobytes())
        return run_checked(machine, bundle, check, *rest)

    monkeypatch.setattr(compile_module, "run_checked", check_twice)
    compiled = compile_stage(demo.exported.folder, board, tmp_path / board, CompileOptions(threads=1))
    assert compiled.checked_on.endswith(f"-cpu {cpu}")
    assert verify_bundle(compiled.bundle, "aarch64").steps == len(STEPS)
    here = demo.compiled.exactness
    for key in ("calls", "accumulators", "quantized", "floats"):
        assert compiled.exactness[key] == here[key] > 0, key
    assert compiled.decoder is not None and demo.compiled.decoder is not None
    for key in ("calls", "floats"):
        assert compiled.decoder[key] == demo.compiled.decoder[key] > 0, f"decoder: {key}"
    golden = read_golden(compiled.bundle).latents
    assert threaded == [golden.tobytes()]
    # Float kernels may sum in another order and tip a rounding tie, no more.
    assert psnr_db(np.asarray(read_golden(demo.compiled.bundle).latents), golden) > 60
