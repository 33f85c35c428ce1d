"""The arm bench on one tiny shape, and the parts that read other programs' output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tvm_flow.bench.__main__ import main
from tvm_flow.bench.mca import cycles_per_pass, find_llvm_mca, inner_loop
from tvm_flow.errors import ConfigError

KEYS = ["a55_sdot_share", "a76_sdot_share", "n2_smmla_share", "insn_per_mac", "onnxruntime_insn_per_mac", "shapes"]
HAS_MCA = any(shutil.which(name) for name in ("llvm-mca", "llvm-mca-19"))
needs_mca = pytest.mark.skipif(not HAS_MCA, reason="no llvm-mca: apt-get install llvm-19")
ASSEMBLY = """
g:
\tmov\tx0, #4
.LBB0_1:
\tldr\tq0, [x1]
.LBB0_2:
\t// a comment
\t.loc 1
\tldr\tq1, [x2], #16
\tsdot\tv2.4s, v0.16b, v1.4b[0]
\tsubs\tx0, x0, #1
\tb.ne\t.LBB0_2
\tcbnz\tx3, .LBB0_1
\tret
"""


def test_the_inner_loop_is_the_shortest_with_the_instruction() -> None:
    loop = inner_loop(ASSEMBLY, "sdot")
    assert [line.split()[0] for line in loop.lines] == ["ldr", "sdot", "subs", "b.ne"]
    assert loop.products == 1
    with pytest.raises(ConfigError, match="expected a loop with smmla"):
        inner_loop(ASSEMBLY, "smmla")


@needs_mca
def test_cycles_of_a_loop() -> None:
    mca, version = find_llvm_mca()
    assert version.count(".") == 2
    assert cycles_per_pass(inner_loop(ASSEMBLY, "sdot"), "cortex-a76", mca) >= 1
    with pytest.raises(ConfigError, match="expected a count of cycles"):
        cycles_per_pass(inner_loop(ASSEMBLY.replace("subs", "zubs"), "sdot"), "cortex-a76", mca)


def test_no_llvm_mca(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"llvm-mca.*install"):
        find_llvm_mca()


@needs_mca
def test_one_line_with_the_promised_keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])  # where the downloaded wheel is kept
    assert main(["arm", "--shape", "16,96,192"]) == 0
    captured = capsys.readouterr()
    (text,) = captured.out.splitlines()
    line = json.loads(text)
    assert list(line) == [*KEYS, "insn_ratios"]
    assert all(0 < line[key] <= 1 for key in KEYS[:5])
    assert line["shapes"] == 1
    assert list(line["insn_ratios"]) == ["neon", "sdot", "smmla"]
    assert line["insn_ratios"]["sdot"] == pytest.approx(
        line["insn_per_mac"] / line["onnxruntime_insn_per_mac"], abs=1e-3
    )
    assert captured.err.count("executed instructions per MAC, onnxruntime 0.") == 3
