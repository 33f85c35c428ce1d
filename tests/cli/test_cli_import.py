"""The import command as a person meets it: what it prints, one line for each refusal, and Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.onnx_graphs import model, node
from support.quantized_graphs import mlp

from tvm_flow.cli import main

X = np.random.default_rng(3).standard_normal((4, 16)).astype(np.float32)
# A shell that starts tests in the background lets its children ignore SIGINT; a person's terminal does not.
_COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tvm_flow.cli import main
sys.exit(main(sys.argv[1:]))
"""


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that the command says."""
    assert main(["import", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in re.split(r"[\r\n]", err) if line.startswith("tvm-flow")]
    assert len(lines) == 1 and "Traceback" not in out + err, err
    return lines[0]


def test_it_prints_every_node_and_where_things_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(mlp(), tmp_path / "net.onnx")
    np.savez(tmp_path / "in.npz", x=X)
    output = tmp_path / "out"
    words = ["import", tmp_path / "net.onnx", "--target", "host", "--output", output, "--run", tmp_path / "in.npz"]
    assert main([str(word) for word in words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("net.onnx: opset 21, 10 nodes: ")
    assert sum(line.startswith("node ") for line in lines) == 10
    (first,) = (line for line in lines if line.startswith("node first (MatMul): integer: "))
    assert "[product 4x16x32, " in first
    assert [line for line in lines if line.startswith(("input ", "output "))] == [
        "input x: float32 [4, 16], 256 bytes",
        "output y: float32 [4, 8], 128 bytes",
    ]
    assert lines[-3:] == [
        f"library: {output / 'libnet.so'}",
        f"header: {output / 'net.h'}",
        f"outputs: {output / 'out.npz'}",
    ]


def test_a_refusal_names_file_node_operator_and_opset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sine.onnx"
    onnx.save(model([node("Relu", "x", "r"), node("Sin", "r", "y", name="wave")], {"x": (4,)}, {"y": (4,)}), path)
    line = refused(capsys, path, "--output", tmp_path / "out")
    assert line.startswith(f"tvm-flow: {path}: node 'wave' (Sin, opset 21): ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing.onnx"], "nothing.onnx: expected an ONNX graph, got: No such file or directory"),
        (["text.onnx"], "text.onnx: expected an ONNX graph, got: "),
        (["net.onnx", "--run", "nothing.npz"], "inputs nothing.npz: expected a readable file"),
        (["net.onnx", "--run", "text.onnx"], "text.onnx: expected arrays as numpy.savez writes them"),
        (["net.onnx", "--name", "日本"], "expected a name with a letter or digit of ASCII"),
        (["net.onnx", "--target", "pdp-11"], "pdp-11"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(mlp(), tmp_path / "net.onnx")
    (tmp_path / "text.onnx").write_text("this is no graph")
    assert expected in refused(capsys, *words, "--output", "out")
    assert not (tmp_path / "out").exists()


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "net.onnx")
    words = ["import", str(tmp_path / "net.onnx"), "--output", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        seen = b""
        while b"1/3" not in seen:
            more = process.stderr.read1(4096)  # type: ignore[attr-defined]
            assert more, seen.decode()
            seen += more
        process.send_signal(signal.SIGINT)
        seen += process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in seen.decode(), seen.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx"]
