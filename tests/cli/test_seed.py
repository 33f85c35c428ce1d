"""Seeds that the noise generator and the files can hold."""

from __future__ import annotations

import pytest

from tvm_flow.cli.parser import make_parser


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_of_63_bits_are_taken(seed: int) -> None:
    assert make_parser().parse_args(["run", "x", "--seed", str(seed)]).seed == seed


@pytest.mark.parametrize("seed", ["-1", str(2**63), "1" * 40, "1.5"])
def test_others_end_with_usage(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args(["run", "x", "--seed", seed])
    assert end.value.code == 2
    assert "argument --seed: expected a whole number" in capsys.readouterr().err
