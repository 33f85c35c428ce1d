"""JSON lines: whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.quality.lines import appending, read_lines


def test_lines_add_up_over_processes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_lines(path) == []
    for k in range(3):
        with appending(path) as file:
            file.append([{"k": k}, {"k": -k}])
    assert [line["k"] for line in read_lines(path)] == [0, 0, 1, -1, 2, -2]


@pytest.mark.parametrize("torn", [b'{"k": 1', b'{"k": 1}', b"\xff\xfe"])
def test_a_torn_tail_never_counts_and_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"k": 0}\n' + torn)
    assert read_lines(path) == [{"k": 0}]
    with appending(path) as file:
        file.append([{"k": 2}])
    assert path.read_bytes() == b'{"k": 0}\n{"k": 2}\n'


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"k": 0}\nnonsense\n{"k": 1}\n')
    with pytest.raises(ConfigError, match=r"a\.jsonl: line 2: expected a JSON object, got b'nonsense'"):
        read_lines(path)


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with appending(path), pytest.raises(ConfigError, match="another command is writing it"), appending(path):
        pass
