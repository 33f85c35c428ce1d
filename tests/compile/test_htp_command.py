"""``package --qualcomm``: which calls are inside, what is compared before it is written; the tools are played."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from support.htp import needs_htp
from support.tiny_fixtures import Exporter

from tvm_flow.cli import main
from tvm_flow.compile import htp_command
from tvm_flow.compile.htp_command import INDEX, HtpPackage, package_htp
from tvm_flow.compile.step_members import PackageOptions
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.export import Exported
from tvm_flow.numerics.integer_tables import UNIT
from tvm_flow.pipeline.packaging import package_stage
from tvm_flow.toolchain.qualcomm import HtpBlob


class Played:
    """Qualcomm's compiler and emulator, ``error`` off in one result, and in the scale of one tensor."""

    def __init__(self, error: int = 0, scale: float = 1.0) -> None:
        self.error, self.scale = error, scale

    def __call__(self, graphs: Mapping[str, tuple[bytes, np.ndarray]], _soc: str) -> Iterator[tuple[str, HtpBlob]]:
        import onnxruntime

        for name, (model, x) in graphs.items():
            y = np.asarray(onnxruntime.InferenceSession(model).run(None, {"x": x})[0])
            y.reshape(-1)[0] += self.error if y.reshape(-1)[0] < 0 else -self.error
            scales = {key: (float(value), 0) for key, value in LINEARS[name].scales.items()}
            scales["wide"] = (scales["wide"][0] * self.scale, 0)
            yield name, HtpBlob(b"wrapper", f"{name}_qnn.bin", bytes(100), scales, (y, y))


LINEARS: dict[str, htp_command.HtpLinear] = {}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    LINEARS.clear()
    made = htp_command.qdq_model

    def noted(linear: htp_command.HtpLinear) -> bytes:
        model = made(linear)
        LINEARS[htp_command.region_name(model)] = linear
        return model

    monkeypatch.setattr(htp_command, "qdq_model", noted)
    monkeypatch.setattr(htp_command, "htp_blobs", Played())
    monkeypatch.setattr(htp_command, "tool_version", lambda: "2.7.0")
    monkeypatch.setattr(htp_command, "missing_package", lambda: "")


def packaged(exported: Exported, folder: Path, *steps: int, clusters: int | None = None) -> HtpPackage:
    return package_htp(exported, PackageOptions("sm8650", steps, clusters), folder, progress=False)


@pytest.mark.usefixtures("played")
def test_every_linear_of_a_step_is_a_binary_and_the_rest_is_named(exported: Exported, tmp_path: Path) -> None:
    package = packaged(exported, tmp_path, 0)
    assert {call.branch for call in package.calls} == {0, 1}
    assert any(reason.startswith("the prologue") for reason in package.work.outside)
    index = json.loads((tmp_path / INDEX).read_text())
    assert [call["region"] for call in index["calls"]] == [call.region for call in package.calls]
    assert index["soc"] == {"name": "sm8650", "htp_arch": "75", "soc_model": "57"}
    for name, files in index["regions"].items():
        assert (tmp_path / files["graph"]).read_bytes()[:1] and (tmp_path / f"{name}_qnn.bin").stat().st_size == 100
    assert index["emulated"]["elements"] == package.held.elements > 0
    of_codes = {call.output_scale for call in package.calls} - {UNIT}
    assert of_codes and of_codes <= {call.input_scale for call in package.calls}, "GELU's codes are another's input"
    lines = list(package.lines())
    assert lines[0].startswith(f"sm8650: {len(package.calls)} calls of 1 step by {len(package.sizes)} context binaries")


@pytest.mark.usefixtures("played")
def test_a_smaller_package_leaves_nothing_of_a_larger_one(exporter: Exporter, tmp_path: Path) -> None:
    exported = exporter("w8a8")[1]
    package_stage(exported.folder, PackageOptions("sm8650", (0, 1)), tmp_path)
    one = package_stage(exported.folder, PackageOptions("sm8650", (0, 1), 1), tmp_path)
    assert isinstance(one, HtpPackage) and len(list(tmp_path.glob("*.bin"))) == len(one.sizes)
    assert [choice.count for choice in one.choices] == [1, 2] and one.choices[0].chosen
    assert one.choices[0].bytes == 100 * len(one.sizes) < one.choices[1].bytes


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize(
    ("tools", "message"),
    [(Played(error=5), "expected within 1 of"), (Played(scale=1.5), "to have tensor wide with scale")],
)
def test_what_computes_something_else_or_has_other_scales_is_not_written(
    tools: Played, message: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(htp_command, "htp_blobs", tools)
    with pytest.raises(BitExactError, match=message):
        packaged(exported, tmp_path, 0)
    assert not (tmp_path / INDEX).exists()


@pytest.mark.usefixtures("played")
def test_what_an_interrupted_package_leaves_is_replaced_and_other_files_are_not(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "region_0_qnn.bin").write_bytes(b"x")
    words = ["package", str(exported.folder), "--qualcomm", "sm8650", "--output", str(tmp_path)]
    assert main(words) == 0
    assert (tmp_path / INDEX).is_file() and not (tmp_path / "region_0_qnn.bin").exists()
    (tmp_path / INDEX).rename(tmp_path / "mine.json")
    assert main(words) == 2
    assert "expected nothing or a package to replace, got other files" in capsys.readouterr().err


def test_without_qualcomms_package_nothing_is_begun(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(htp_command, "missing_package", lambda: "onnxruntime-qnn: expected it")
    with pytest.raises(BuildError, match="onnxruntime-qnn: expected it"):
        packaged(exported, tmp_path, 0)


def test_an_soc_that_there_is_not(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="SoC 'sm1': expected one of sm8550"):
        package_htp(exported, PackageOptions("sm1"), tmp_path, progress=False)


@needs_htp
def test_the_command_runs_what_it_made(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["package", str(exported.folder), "--qualcomm", "sm8650", "--output", str(tmp_path / "package")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "1 away from the exact one and none is farther" in out and f"package: {tmp_path / 'package'}" in out
