"""The report's part on tuning says what won, what did not and why, and what trials and time it took."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_flow.cli import main
from tvm_flow.errors import ConfigError
from tvm_flow.quality.report_tuning import curves, tuning_sections
from tvm_flow.tune.entries import DEFAULT, Entry, Key, Kind
from tvm_flow.tune.ledger import append_all
from tvm_flow.tune.run_files import RunFile, write_run


def key(workload: str) -> Key:
    return Key(workload, "aarch64-linux-gnu cortex-a76", "neon", "tvm 1", "race threads=4")


def trial(workload: str, candidate: str, ratio: float, kind: Kind = Kind.TRIAL) -> Entry:
    label, times = f"product <{workload}>", (1e-3,) * 42
    return Entry(
        key(workload), kind, candidate, "c", "d", times, tuple(ratio * t for t in times), exact=True, label=label
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    won = [trial("a", f"c{n}", 1 + n / 100) for n in range(9)] + [trial("a", "c8", 1.5, Kind.FINAL)]
    lost = [trial("b", DEFAULT, 1.0), trial("b", "c0", 0.9)]
    append_all(tmp_path / "records", [*won, *lost])
    write_run(tmp_path / "records", RunFile("raspberry-pi-5", 10, 60.0, 30.0, 20.0, {"a": 7, "b": 2}))
    return tmp_path / "records"


def test_kernels_stand_before_and_after_with_the_time_of_all_their_calls(store: Path) -> None:
    table, _, costs = tuning_sections(store)
    first, second, last = table.content.split("<tr")[2:]
    assert "product &lt;a&gt;" in first and ">7<" in first and "1.500 (1.500 to 1.500)" in first
    assert first.startswith(' class="reference"') and "product &lt;b&gt;" in second
    assert "no candidate was faster in the race" in second
    assert last.startswith(' class=""><td>all')
    assert "raspberry-pi-5" in costs.content and 'style="width:50.0%"' in costs.content


def test_a_curve_is_the_best_after_so_many_trials(store: Path) -> None:
    entries = [trial("a", f"c{n}", 1 + n / 100) for n in (3, 1, 2, 0, 9)]
    (series,) = curves([entries, [trial("b", DEFAULT, 1.0)]])
    assert [(x, round(y.mean, 2)) for x, y in series.points] == [(1, 1.03), (2, 1.03), (4, 1.03), (5, 1.09)]
    assert "<svg" in tuning_sections(store)[1].content


def test_a_page_about_tuning_needs_no_scores(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", "--scores", str(tmp_path / "none"), "--records", str(store), "--output", str(page)]) == 0
    assert "<h1>Tuning of kernels</h1>" in page.read_text()


def test_a_store_without_measurements_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run tvm-flow tune first"):
        tuning_sections(tmp_path)
