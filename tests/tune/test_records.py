"""What the records command shows, merges, exports and removes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tvm_flow.artifact import exclusive
from tvm_flow.cli import main
from tvm_flow.errors import ConfigError
from tvm_flow.tune.entries import Entry, Key, Kind
from tvm_flow.tune.ledger import Writer, append_all, read_ledger
from tvm_flow.tune.records import export_records, list_records, merge_records, prune_records, show_records
from tvm_flow.tune.verdicts import verdict

KEY = Key("abc123", "x86_64-linux-gnu znver3", "avx2", "apache-tvm 0.27", "paired-1 threads=1")
PAIRS = 42
TRIAL = Entry(KEY, Kind.TRIAL, '{"rows":2}', samples=(1.0,) * 3, baseline=(1.0,) * 3, label="product 8x64x32")
WINNER = replace(TRIAL, kind=Kind.FINAL, samples=(1.0,) * PAIRS, baseline=(1.2,) * PAIRS, exact=True)
LOSER = replace(WINNER, candidate='{"rows":1}', baseline=(0.9,) * PAIRS)
FAILED = replace(TRIAL, kind=Kind.FAILED, candidate='{"rows":8}', samples=(), baseline=(), cause="no answer in 2 s")


def test_a_sure_gain_that_is_exact_wins() -> None:
    won = verdict([TRIAL, LOSER, WINNER, FAILED])
    assert won.tuned
    assert won.candidate == WINNER.candidate
    assert won.trials == 3


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (replace(WINNER, exact=False), "reference"),
        (replace(WINNER, kind=Kind.TRIAL), "no candidate was faster"),
        (LOSER, "not surely faster"),
        (FAILED, "no answer in 2 s"),
        (replace(WINNER, baseline=(1.2,) * 21 + (1.0,) * 21), "not surely faster"),
        (replace(WINNER, baseline=(1.2, 3.0) * 21), "too noisy"),
        (replace(WINNER, samples=(1e-9,) * PAIRS), "not surely faster"),
        (replace(WINNER, samples=(1.0,) * 8, baseline=(1.2,) * 8), "left the finals early"),
    ],
)
def test_anything_less_keeps_the_default_and_says_why(entry: Entry, why: str) -> None:
    assert not verdict([entry]).tuned
    assert why in verdict([entry]).why


def test_a_second_opinion_of_the_default_is_no_candidate() -> None:
    assert not verdict([replace(WINNER, candidate="")]).tuned


def test_the_list_says_what_won_and_what_does_not_count(tmp_path: Path) -> None:
    path = append_all(tmp_path, [TRIAL, WINNER, replace(LOSER, key=replace(KEY, workload="def456"))])
    path.write_bytes(path.read_bytes() + b"{")
    first, second, third = list_records(tmp_path)
    assert first.startswith("abc123 product 8x64x32 on znver3")
    assert "tuned" in first
    assert "default" in second
    assert third.startswith("skipped: ")


def test_show_names_every_record_of_a_kernel(tmp_path: Path) -> None:
    append_all(tmp_path, [TRIAL, WINNER, FAILED])
    text = "\n".join(show_records(tmp_path, "abc"))
    assert "1.200 (1.200 to 1.200)" in text
    assert "failed" in text
    with pytest.raises(ConfigError, match="records list"):
        show_records(tmp_path, "zzz")


def test_merge_takes_what_is_new(tmp_path: Path) -> None:
    append_all(tmp_path / "one", [TRIAL, WINNER])
    append_all(tmp_path / "two", [WINNER, LOSER])
    assert merge_records(tmp_path / "one", [tmp_path / "two"]) == 1
    assert merge_records(tmp_path / "one", [tmp_path / "two"]) == 0
    assert set(read_ledger(tmp_path / "one").entries) == {TRIAL, WINNER, LOSER}


def test_one_process_merges_or_prunes_at_a_time(tmp_path: Path) -> None:
    append_all(tmp_path / "one", [TRIAL])
    append_all(tmp_path / "two", [WINNER])
    with exclusive(tmp_path / "one"):
        with pytest.raises(ConfigError, match="another command is writing it"):
            merge_records(tmp_path / "one", [tmp_path / "two"])
        with pytest.raises(ConfigError, match="another command is writing it"):
            prune_records(tmp_path / "one", lambda _: True)
    assert read_ledger(tmp_path / "one").entries == (TRIAL,)


def test_a_link_to_a_store_that_is_not_there_yet_is_followed(tmp_path: Path) -> None:
    append_all(tmp_path / "other", [WINNER])
    (tmp_path / "store").symlink_to("elsewhere")
    assert merge_records(tmp_path / "store", [tmp_path / "other"]) == 1
    with Writer(tmp_path / "store") as writer:
        writer.append(LOSER)
    assert (tmp_path / "store").is_symlink()
    assert set(read_ledger(tmp_path / "elsewhere").entries) == {WINNER, LOSER}


def test_export_ships_winners_alone(tmp_path: Path) -> None:
    append_all(tmp_path / "store", [TRIAL, WINNER, LOSER])
    assert export_records(tmp_path / "store", tmp_path / "board.jsonl") == 1
    assert read_ledger(tmp_path / "board.jsonl").entries == (WINNER,)
    append_all(tmp_path / "none", [LOSER])
    with pytest.raises(ConfigError, match="won"):
        export_records(tmp_path / "none", tmp_path / "other.jsonl")


def test_prune_leaves_what_a_living_writer_holds(tmp_path: Path) -> None:
    append_all(tmp_path, [TRIAL, LOSER])
    with Writer(tmp_path) as writer:
        writer.append(FAILED)
        pruned = prune_records(tmp_path, lambda entry: entry is not FAILED and entry.kind is Kind.FINAL)
        assert (pruned.kept, pruned.removed, pruned.in_use) == (1, 1, (writer.path,))
    assert set(read_ledger(tmp_path).entries) == {LOSER, FAILED}


def test_the_command_verifies_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = append_all(tmp_path, [TRIAL, WINNER])
    assert main(["records", "verify", "--records", str(tmp_path)]) == 0
    assert "2 records" in capsys.readouterr().out
    path.write_bytes(path.read_bytes().replace(b"1.2", b"9.2", 1))
    assert main(["records", "verify", "--records", str(tmp_path)]) == 2
    assert "checksum" in capsys.readouterr().err
    assert main(["records", "prune", "--records", str(tmp_path), "--all-versions"]) == 0
    assert main(["records", "verify", "--records", str(tmp_path)]) == 0


def test_the_command_lists_shows_merges_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_all(tmp_path / "other", [WINNER])
    store = ["--records", str(tmp_path / "store")]
    assert main(["records", "merge", str(tmp_path / "other"), *store]) == 0
    assert main(["records", "list", *store]) == 0
    assert "product 8x64x32" in capsys.readouterr().out
    assert main(["records", "show", "abc", *store]) == 0
    assert main(["records", "export", str(tmp_path / "out.jsonl"), *store]) == 0
    assert read_ledger(tmp_path / "out.jsonl").entries == (WINNER,)
    with pytest.raises(SystemExit, match="2"):
        main(["records", "merge", *store])
