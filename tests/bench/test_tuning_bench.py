"""The bench of tuning says what it is at, keeps to its time, and prints one line; the ranking beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tvm_flow.bench import int8_export, ranking, tuning
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.int8_export import kept_export
from tvm_flow.bench.models import BenchModel
from tvm_flow.bench.phases import Phases
from tvm_flow.bench.ranking import Ranking, heaviest_products
from tvm_flow.bench.turns import FEWEST, in_turns
from tvm_flow.compile.command import Compiled
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.model import STDiTConfig
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.entries import DEFAULT
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.local_bench import Costs
from tvm_flow.tune.statistics import Interval
from tvm_flow.tune.tune_export import Tuned, TuneOptions
from tvm_flow.tune.verdicts import Verdict

RANKED = Ranking("product", 9, 0.9, 0.5, 1.04, 1.1, 5)
FIELDS = (
    *("model", "worker_start_s", "trials", "trials_per_minute", "met_budget_trials", "kernels", "default_ms"),
    *("tuned_ms", "ratio_low", "ratio_high", "rank_correlation", "rank_correlation_same_rows", "model_regret"),
    *("default_regret", "ranked", "ranked_kernel", "kernels_tuned", "seconds"),
)


@pytest.fixture(scope="module")
def kernels(exported: Exported, host: TargetSpec) -> list[TunedKernel]:
    return tuned_kernels(exported, host, 1, lambda words: "product" in words, progress=False)


@pytest.fixture
def asked(
    kernels: list[TunedKernel], compiler: Callable[[str, str], Compiled], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[TuneOptions]]:
    """What searches were asked for; nothing is searched, compiled or ranked."""
    found: list[TuneOptions] = []

    def search(given: list[TunedKernel], *rest: object) -> Tuned:
        options = next(each for each in rest if isinstance(each, TuneOptions))
        found.append(options)
        candidate = given[0].task.space[0] if tuned else DEFAULT
        won = Verdict(candidate, Interval(1.1, 1.05, 1.2), "", trials=4)
        trials = 4 if len(found) == 1 else 0
        return Tuned({"w": (given[0].task, won)}, trials=trials, costs=Costs(20.0, 10.0))

    tuned = True
    compiled = compiler("w8a8", "host")
    monkeypatch.setattr(tuning, "tuned_kernels", lambda *_, **_progress: kernels)
    monkeypatch.setattr(tuning, "compile_bundle", lambda *_: compiled)
    monkeypatch.setattr(tuning, "tune_kernels", search)
    monkeypatch.setattr(tuning, "rank_model", lambda *_: RANKED)
    yield found


def line(exported: Exported, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, float], str]:
    words = ["--export", str(exported.folder), "--trials", "4", "--minutes", "1", "--threads", "1"]
    assert main(["tuning", *words]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_one_json_line_and_every_part_is_told(
    exported: Exported, asked: list[TuneOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    found, told = line(exported, capsys)
    assert tuple(found) == FIELDS
    assert (found["trials_per_minute"], found["met_budget_trials"], found["kernels_tuned"]) == (8.0, 0, 1)
    assert (found["rank_correlation"], found["model_regret"]) == (0.9, 1.04)
    assert 0 < found["ratio_low"] <= found["ratio_high"] and 0 <= found["worker_start_s"] < 2
    heads = [text for text in told.splitlines() if text.startswith("[")]
    assert [text.partition("]")[0] for text in heads[::2]] == [f"[{n}/7" for n in range(1, 8)]
    assert all("s left" in text for text in heads[::2]) and all("took" in text for text in heads[1::2])
    first, again = asked
    assert first.trials == again.trials == 4
    assert 0.3 < first.minutes < 1.0 and again.minutes == 0, "of one minute, with the rest kept for what follows"


@pytest.mark.usefixtures("asked")
def test_where_nothing_won_no_second_bundle_is_timed(
    exported: Exported,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kernels: list[TunedKernel],
) -> None:
    none = Tuned({"w": (kernels[0].task, Verdict(DEFAULT, Interval(0, 0, 0), "", trials=4))}, trials=4)
    monkeypatch.setattr(tuning, "tune_kernels", lambda *_: none)
    monkeypatch.setattr(tuning, "in_turns", lambda *_: pytest.fail("they are one bundle"))

    def fails(*_: object) -> Ranking:
        raise BuildError("llvm-mca: expected it on PATH")

    monkeypatch.setattr(tuning, "rank_model", fails)
    found, told = line(exported, capsys)
    assert (found["ratio_low"], found["ratio_high"], found["kernels_tuned"]) == (1.0, 1.0, 0)
    assert found["default_ms"] == found["tuned_ms"] > 0
    assert found["rank_correlation"] is None and "no ranking: llvm-mca" in told


@pytest.mark.parametrize("words", [["--export", "nowhere"], ["--trials", "0"], ["--minutes", "0"], ["--model", "gpt"]])
def test_what_it_cannot_do_is_a_line(exported: Exported, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tuning", "--export", str(exported.folder), *words]) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.usefixtures("asked")
def test_ctrl_c_ends_a_bench_with_its_own_code(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "tune_kernels", lambda *_: Tuned(interrupted=True))
    assert main(["tuning", "--export", str(exported.folder), "--threads", "1"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_time_that_is_left_runs_out_and_stays_out() -> None:
    phases = Phases(1, 0.05)
    assert 0 < phases.left <= 0.05
    time.sleep(0.06)
    assert phases.left == 0.0 and phases.took > 0.05


def test_bundles_in_turns_take_as_many_pairs_as_an_interval_needs(compiler: Callable[[str, str], Compiled]) -> None:
    bundle = compiler("w8a8", "host").bundle
    found = in_turns((bundle, bundle), 1, FEWEST + 4, 0.0)
    assert 0 < found.gain.low <= found.gain.ratio <= found.gain.high
    assert found.default_ms > 0 < found.tuned_ms


def test_an_export_that_is_kept_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_FLOW_CACHE", str(tmp_path))
    sizes = {"depth": 1, "hidden": 32, "heads": 2, "caption_channels": 8, "model_max_length": 6}
    video = {"cfg_scale": 7.0, "fps": 8.0, "frames": 3, "height": 48, "width": 32, "name": "iddpm"}
    model, told = BenchModel(STDiTConfig(**sizes), video, (4, 3, 6, 4)), list[str]()  # type: ignore[arg-type]
    first = kept_export("tiny", model, 1, told.append)
    monkeypatch.setattr(int8_export, "calibrated", lambda *_: pytest.fail("it is there"))
    again = kept_export("tiny", model, 1, told.append)
    assert again.graphs == first.graphs and told == ["random weights", "calibrated", "exported int8", "exported before"]


def test_products_are_ranked_by_what_they_multiply_and_printed_as_the_table_is(
    exported: Exported,
    kernels: list[TunedKernel],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def macs(kernel: TunedKernel) -> int:
        product = kernel.packed.products[kernel.kernel]
        return kernel.task.calls * product.m * product.k * product.n

    first, second = heaviest_products(kernels, 2)
    assert macs(first) >= macs(second) >= max(macs(each) for each in kernels if each not in (first, second))
    given: list[float] = []

    def rank(_kernel: TunedKernel, *rest: float) -> Ranking:
        given.append(rest[-1])
        return RANKED

    monkeypatch.setattr(ranking, "tuned_kernels", lambda *_, **_progress: kernels)
    monkeypatch.setattr(ranking, "rank_model", rank)
    assert main(["ranking", "--export", str(exported.folder), "--products", "2", "--minutes", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["products"]) == [first.task.label, second.task.label]
    row = {"ranked": 9, "spearman": 0.9, "alike": 5, "same_rows": 0.5, "first_choice": 1.04, "default": 1.1}
    assert found["products"][first.task.label] == row
    assert given == pytest.approx([30, 60], abs=2), "each has its part of what is left"
