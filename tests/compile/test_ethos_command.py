"""``package``: which calls are inside, what equal scales share, and what is refused; vela is played."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.integer_models import exported_integers, quantized_integers
from support.tiny_fixtures import Exporter
from support.tiny_model import STDIT_CONFIG

from tvm_flow.cli import main
from tvm_flow.compile import ethos_command
from tvm_flow.compile.ethos_command import package_ethos
from tvm_flow.compile.ethos_report import EthosPackage
from tvm_flow.compile.step_members import PackageOptions
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.toolchain.arm_npu import EthosStream

COMMANDS = struct.pack("<4I", 0x31504F43, 0x00020002, 7, 0xFFFF0000)
SIZE = len(COMMANDS) + 100


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were handed on."""
    texts: list[str] = []

    def play(_graph: bytes, accelerator: str) -> EthosStream:
        return EthosStream(accelerator, COMMANDS, bytes(100), 10, 1000, 64, 0, (0,), 32, 0)

    monkeypatch.setattr(ethos_command, "serialized", lambda text: texts.append(text) or b"")
    monkeypatch.setattr(ethos_command, "ethos_stream", play)
    return texts


def packaged(exported: Exported, folder: Path, *steps: int, clusters: int | None = None) -> EthosPackage:
    return package_ethos(exported, PackageOptions("ethos-u85-512", steps, clusters), folder, progress=False)


def test_every_linear_of_a_step_is_a_call_and_the_rest_is_named(exported: Exported, tmp_path: Path) -> None:
    package = packaged(exported, tmp_path, 0)
    assert {call.step for call in package.calls} == {0} and {call.branch for call in package.calls} == {0, 1}
    assert package.work.inside > 0 and any(reason.startswith("the prologue") for reason in package.work.outside)
    assert package.cycles(0) == 1000 * len(package.calls) and package.bytes == SIZE * len(package.streams)
    text = (tmp_path / "step.c").read_text()
    assert text.count("const ethosu_region region") == len(package.streams)
    assert text.count(", 0, 0, 0x1.") == text.count(", 0, 1, 0x1.") == len(package.calls) / 2
    lines, streams = list(package.lines()), len(package.streams)
    assert lines[0].startswith(f"ethos-u85-512: {len(package.calls)} calls of 1 step by {streams} command streams, ")
    assert any(line.startswith("outside: ") for line in lines)


def test_scales_of_a_step_cost_streams_and_those_of_a_group_none(
    exporter: Exporter, tmp_path: Path, compiled: list[str]
) -> None:
    own, grouped = exporter("w8a8")[1], exporter("quality/static-w8a8-g1")[1]
    one, two = (packaged(own, tmp_path / str(len(steps)), *steps) for steps in ((0,), (0, 1)))
    assert len(two.calls) == 2 * len(one.calls) and len(two.streams) > 1.5 * len(one.streams)
    assert len(compiled) == len(one.streams) + len(two.streams), "each text once"
    assert two.unshared == SIZE * len(two.calls) > two.bytes > two.first_bytes == one.bytes
    one, two = (packaged(grouped, tmp_path / f"g{len(steps)}", *steps) for steps in ((0,), (0, 1)))
    assert len(two.calls) == 2 * len(one.calls) and two.bytes == two.first_bytes == one.bytes


class TestRefusals:
    def test_an_accelerator_that_there_is_not(self, exported: Exported, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="accelerator 'ethos-u99': expected one of ethos-u55-256"):
            package_ethos(exported, PackageOptions("ethos-u99"), tmp_path, progress=False)

    @pytest.mark.parametrize("count", [0, 3])
    def test_more_clusters_than_steps_or_none(self, exported: Exported, tmp_path: Path, count: int) -> None:
        with pytest.raises(BuildError, match=f"clusters: expected 1 to 2, the number of steps, got {count}"):
            packaged(exported, tmp_path, 0, 1, clusters=count)

    def test_a_step_that_there_is_not(self, exported: Exported, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="step 99: expected one of 0 to"):
            packaged(exported, tmp_path, 0, 99)

    def test_a_folder_with_other_files(
        self, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "mine.txt").write_text("x")
        assert main(["package", str(exported.folder), "--output", str(tmp_path)]) == 2
        assert "expected nothing or a package to replace, got other files" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_clusters_share_the_widest_scales_and_say_what_they_cost(exported: Exported, tmp_path: Path) -> None:
    own = packaged(exported, tmp_path / "own", 0, 1, 2)
    one = packaged(exported, tmp_path / "one", 0, 1, 2, clusters=1)
    assert one.bytes == one.first_bytes < own.bytes
    calls = len(own.calls) // 3
    for place, call in enumerate(one.calls):
        steps = [own.calls[place % calls + calls * step].input_scale for step in range(3)]
        assert call.input_scale == max(steps), "of a layer and branch"
    bytes_, noise = ([getattr(choice, key) for choice in own.choices] for key in ("bytes", "noise_db"))
    assert (bytes_[0], bytes_[2]) == (one.bytes, own.bytes) and bytes_ == sorted(bytes_)
    assert noise[0] > noise[1] > noise[2] == pytest.approx(0.0, abs=1e-9)
    assert [choice.chosen for choice in one.choices] == [True, False, False]
    (line,) = (line for line in one.lines() if "this package" in line)
    assert line.startswith(f"1 cluster of steps: about {one.bytes} bytes, rounding noise of inputs +")


def test_blocks_in_integers_are_whole_regions_of_which_steps_share_none(tmp_path: Path) -> None:
    exported = exported_integers(quantized_integers("blocks.0", tmp_path), tmp_path / "export")
    package = packaged(exported, tmp_path / "package", 0, 1)
    assert len(package.calls) == len(package.streams) == 2 * 2 * STDIT_CONFIG.depth
    words = ("the prologue, which runs once for a prompt", "kernel of ['relax.matmul']: ")
    assert all(reason.startswith(words) for reason in package.work.outside), "embedders and the final layer"
    assert all(call.input_scale == call.output_scale > 0 for call in package.calls), "the residual's unit"
    assert not package.choices
    with pytest.raises(BuildError, match="got blocks in integers"):
        packaged(exported, tmp_path / "package", 0, 1, clusters=1)


def test_the_command_says_what_it_wrote(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["package", str(exported.folder), "--ethos-u", "ethos-u55-256", "--output", str(tmp_path / "package")]
    for _ in range(2):  # a package is replaced
        assert main(words) == 0
        out = capsys.readouterr().out
        assert "ethos-u55-256: " in out and "step 0: about " in out and f"package: {tmp_path / 'package'}" in out
    assert (tmp_path / "package" / "ethosu_linux.c").is_file()
