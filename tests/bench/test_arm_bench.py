"""The arm bench on one tiny shape, and the parts that read other programs' output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tvm_flow.bench import models
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.mca import cycles_per_pass, find_llvm_mca, inner_loop
from tvm_flow.bench.models import BenchModel
from tvm_flow.errors import ConfigError
from tvm_flow.model import STDiTConfig

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


def test_a_whole_block_is_counted_beside_its_peers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that is small enough for seconds, on the core without a dot product."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    sizes = {"hidden": 32, "heads": 2, "caption_channels": 8, "model_max_length": 6}
    video = {"cfg_scale": 7.0, "fps": 8.0, "frames": 16, "height": 128, "width": 128, "name": "iddpm"}
    tiny = BenchModel(STDiTConfig(depth=2, **sizes), video)  # type: ignore[arg-type]
    monkeypatch.setattr(models, "MODELS", {"tiny": tiny})
    assert main(["arm", "--step", "--model", "tiny", "--cpu", "cortex-a72"]) == 0
    (text,) = capsys.readouterr().out.splitlines()
    line = json.loads(text)
    ours = ["ours_minsn", "ours_prologue_minsn", "ours_step_minsn", "ours_max_err", "insn_per_mac", "kinds"]
    assert list(line) == ["model", "blocks", "tokens", "cpu", *ours, "peers"]
    assert (line["model"], line["blocks"], line["tokens"], line["cpu"]) == ("tiny", 1, 512, "cortex-a72")
    assert list(line["peers"]) == ["onnxruntime_int8", "onnxruntime_fp32"]
    assert line["ours_prologue_minsn"] + line["ours_step_minsn"] == pytest.approx(line["ours_minsn"], abs=0.11)
    assert sum(line["kinds"].values()) == pytest.approx(line["ours_minsn"], abs=0.05 * (len(line["kinds"]) + 1))
    assert 0 < line["ours_max_err"] < 0.5 > line["peers"]["onnxruntime_int8"]["max_err"]
    # Single precision errs by 1000 * 2^-24 in the argument of the timestep's sines.
    assert line["peers"]["onnxruntime_fp32"]["max_err"] < 1e-4, "both sides computed this model"
    assert all(peer["minsn"] > 1 for peer in line["peers"].values()) and line["ours_minsn"] > 1


def test_a_core_that_no_target_has_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["arm", "--step", "--cpu", "cortex-m0"]) == 2
    assert "cpu 'cortex-m0': expected one of cortex-a72, cortex-a76, cortex-a710" in capsys.readouterr().err
