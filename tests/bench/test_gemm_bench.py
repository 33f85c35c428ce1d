"""The gemm bench on tiny shapes: what it prints, not how fast this machine is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tvm_flow.backends.cpu import generic
from tvm_flow.backends.cpu.isa import registered_isas
from tvm_flow.bench.__main__ import NAMES, main
from tvm_flow.bench.gemm import Measured
from tvm_flow.bench.peers import onnxruntime_product, torch_product
from tvm_flow.bench.shapes import STDIT, Shape, parse_shapes
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.profile.peak import INSTRUCTIONS, peak_meter
from tvm_flow.target.spec import detect_host

KEYS = [
    *("shape", "ours_gmacs", "ours_max_err", "peak_gmacs", "onnxruntime_u8s8_gmacs", "onnxruntime_max_err"),
    "torch_int8_gmacs",
]


def test_one_line_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gemm", "--shape", "8,64,96", "--shape", "16,128,96", "--rounds", "2"]) == 0
    captured = capsys.readouterr()
    (text,) = captured.out.splitlines()
    line = json.loads(text)
    assert list(line) == KEYS
    assert line["ours_max_err"] == 0
    assert line["shape"] in ("8x64x96", "16x128x96")
    assert all(line[key] > 0 for key in KEYS if key.endswith("gmacs"))
    assert captured.err.count("ratio") == 2, "details of every shape"


def test_the_worst_shape_is_the_one_furthest_behind_its_fastest_peer() -> None:
    measured = Measured(
        Shape(1, 2, 3), {"ours": 50.0, "onnxruntime_u8s8": 40.0, "torch_x86": 100.0}, {"ours": 0}, 120.0
    )
    assert measured.ratio() == 0.5
    assert measured.line()["onnxruntime_max_err"] is None
    assert measured.line()["torch_int8_gmacs"] == 100.0


@pytest.mark.parametrize("kind", ["u8s8", "s8s8", "torch"])
def test_peers_multiply_what_we_multiply(kind: str) -> None:
    """These codes cannot saturate in any instruction."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-64, 64, (20, 64), np.int8), rng.integers(-32, 32, (64, 32), np.int8)
    peer = torch_product(x, w) if kind == "torch" else onnxruntime_product(x, w, signed=kind == "s8s8")
    assert peer is not None and peer.result is not None
    assert np.array_equal(peer.result(), x.astype(np.int32) @ w.astype(np.int32))


def test_peaks_of_what_this_machine_has() -> None:
    features = detect_host().features
    for isa in registered_isas():
        if isa.name in INSTRUCTIONS and isa.features <= features:
            assert peak_meter(isa)() > 0
    with pytest.raises(BuildError, match="peak of generic"):
        peak_meter(generic.GENERIC)


def test_shapes() -> None:
    assert len(STDIT) == 27 and {s.m for s in STDIT} == {256, 1024, 4096}
    assert parse_shapes([]) == STDIT
    assert parse_shapes(["1,2,3"]) == (Shape(1, 2, 3),)
    for text in ("1,2", "0,2,3", "a,b,c", "1,2,3,4", "-1,2,3"):
        with pytest.raises(ConfigError, match="expected M,K,N"):
            parse_shapes([text])


def test_unknown_names_and_bad_shapes_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["fast"]) == main(["gemm", "--shape", "9"]) == 2
    assert f"expected one of {', '.join(NAMES)}" in capsys.readouterr().err
