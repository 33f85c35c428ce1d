"""The commands as a person meets them: help, one line for each mistake, exit codes, what is printed and written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors import safe_open
from support.small_demo import PROMPT, RECIPE, SmallDemo

from tvm_flow.artifact import stamp_path
from tvm_flow.calibrate import load_ranges
from tvm_flow.cli import main
from tvm_flow.cli.parser import make_parser
from tvm_flow.compile.options import CompileOptions, Emit
from tvm_flow.opensora import save_embeddings
from tvm_flow.pipeline import stages
from tvm_flow.pipeline.generate import Generation, generate_latents, noise_for
from tvm_flow.shipped import output_folder

COMMANDS = (
    *("inspect", "embed", "calibrate", "quantize", "export", "compile", "package", "import", "replay", "targets"),
    *("run", "compare", "evaluate", "sensitivity", "mix", "report", "diff", "build", "profile", "demo"),
    *("devices", "doctor", "tune", "boards", "records", "sign", "verify", "install"),
)
_HELP = """
import sys
from tvm_flow.cli import main
for words in (["--help"], ["--version"], *([name, "--help"] for name in sys.argv[1:])):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0, words
heavy = {"torch", "tvm", "numpy", "onnx", "safetensors", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    """The one line that a failing command says."""
    assert main([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    lines = [line for line in err.split("\n") if line and "\r" not in line]
    assert len(lines) == 1, err
    assert lines[0].startswith("tvm-flow: ")
    assert "Traceback" not in out + err
    return lines[0]


class TestHelp:
    def test_every_command_helps_without_loading_torch_or_tvm(self) -> None:
        command = [sys.executable, "-c", _HELP, *COMMANDS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for name in COMMANDS:
            assert f"usage: tvm-flow {name}" in done.stdout

    def test_every_option_has_a_description(self) -> None:
        (commands,) = (
            action.choices for action in make_parser()._actions if action.dest == "COMMAND" or action.choices
        )
        assert set(commands) == set(COMMANDS)
        for name, parser in commands.items():
            assert all(action.help for action in parser._actions), name

    def test_defaults_are_found_from_any_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name, option in (("calibrate", "prompts"), ("quantize", "recipe"), ("export", "prompts")):
            assert getattr(make_parser().parse_args([name]), option).is_file(), name

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["fly"],
            ["run"],
            ["build"],
            ["compare"],
            ["diff", "one"],
            ["compile", "--threads", "-1"],
            ["compile", "--threads", "two"],
            ["compile", "--require-coverage", "95"],
            ["compile", "--emit", "wasm"],
            ["run", "x", "--seed", "-3"],
            ["run", "x", "--count", "0"],
            ["run", "x", "--format", "avi"],
            ["run", "x", "--cpus", "4-"],
            ["run", "x", "--cpus", "3-1"],
            ["run", "x", "--cpus", "0,1,0-2"],
            ["run", "x", "--cpus", ""],
            ["run", "x", "--cpus", "0-99999999999"],
            ["demo", "--clips", "0"],
            ["package", "--ethos-u", "ethos-u90"],
            ["package", "--steps", "3-1"],
            ["inspect"],
            ["calibrate", "--latent", "1,2,3"],
            ["calibrate", "--latent", "1,2,3,0"],
            ["calibrate", "--latent", "1,2,3,-4"],
            ["calibrate", "--latent", "1,2,3,x"],
            ["calibrate", "--merge"],
            ["sign"],
            ["sign", "bundle", "--key", "k", "--model", "m"],
            ["sign", "bundle", "--new-key", "k"],
            ["sign", "bundle", "--key", "k", "--model", "m", "--version", "-1"],
            ["verify"],
            ["install", "bundle"],
        ],
    )
    def test_wrong_words_end_with_usage_and_code_2(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
        assert "usage: tvm-flow" in capsys.readouterr().err

    def test_a_latent_is_four_sizes(self) -> None:
        assert make_parser().parse_args(["calibrate", "--latent", "4,16,32,32"]).latent == (4, 16, 32, 32)

    @pytest.mark.parametrize(
        ("text", "cpus"), [("0", (0,)), ("4-7,0-3", (4, 5, 6, 7, 0, 1, 2, 3)), ("2,0,5-5", (2, 0, 5))]
    )
    def test_cpus_keep_their_order(self, text: str, cpus: tuple[int, ...]) -> None:
        assert make_parser().parse_args(["run", "x", "--cpus", text]).cpus == cpus


class TestTargets:
    def test_they_are_listed_shown_and_detected(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["targets", "list"]) == 0
        listed = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["raspberry-pi-4", "cortex-a72"] in [words[:2] for words in listed]
        assert main(["targets", "show", "raspberry-pi-4"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["cpu"] == "cortex-a72"
        assert main(["targets", "detect"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["cores"]["big"] > 0
        assert "expected one of armv8-a" in refused(capsys, "targets", "show", "nope")


class TestMistakes:
    def test_missing_files_are_named(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        gone = str(tmp_path / "gone")
        for words in (
            ["calibrate", "--prompts", gone],
            ["calibrate", "--merge", gone],
            ["quantize", "--ranges", gone],
            ["export", "--quantized", gone],
            ["compile", "--export", gone],
            ["run", PROMPT, "--bundle", gone],
            ["build", gone],
        ):
            output = [] if words[0] == "build" else ["--output", str(tmp_path / "out")]
            assert gone in refused(capsys, *words, *output), words
        assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]

    def test_an_unknown_prompt_explains_the_language(
        self, demo: SmallDemo, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        line = refused(capsys, "run", "a cat", "--bundle", str(demo.folder / "bundle"), "--output", str(tmp_path / "v"))
        assert "prompt 'a cat': expected one of the demo's 288 captions" in line
        assert not (tmp_path / "v").exists()

    def test_an_unknown_target_lists_the_known(self, demo: SmallDemo, capsys: pytest.CaptureFixture[str]) -> None:
        line = refused(capsys, "compile", "--export", str(demo.folder / "export"), "--target", "z80")
        assert "armv8-a, host, " in line and "raspberry-pi-5" in line and "x86-64-v2, x86-64-v3" in line

    def test_another_model_must_say_what_it_needs(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "expected sampler, latent, captions" in refused(capsys, "calibrate", "--model", "other.pth")

    def test_a_file_system_that_refuses_is_one_line(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        line = refused(capsys, "calibrate", "--output", str(tmp_path / "file" / "ranges.safetensors"))
        assert str(tmp_path / "file") in line
        assert "check path, permission and space" in line

    def test_a_bug_keeps_its_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stages, "build", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["build", str(RECIPE.parent.parent / "demo.yaml")])

    def test_ctrl_c_before_any_work_is_130(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(stages, "build", interrupt)
        assert "interrupted" in refused(capsys, "build", str(RECIPE.parent.parent / "demo.yaml"), code=130)


def mtimes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


class TestStages:
    def test_finished_commands_say_so_and_rewrite_nothing(
        self, demo: SmallDemo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = mtimes(demo.folder)
        said = {}
        for words in (
            ["calibrate", "--prompts", demo.prompts, "--output", demo.ranges],
            ["quantize", "--ranges", demo.ranges, "--output", demo.quantized],
            ["compile", "--export", demo.folder / "export", "--output", demo.folder / "bundle"],
        ):
            assert main([str(word) for word in words]) == 0
            said[words[0]] = capsys.readouterr().out
        assert mtimes(demo.folder) == before
        assert said["calibrate"] == f"ranges: {demo.ranges}\n"
        assert said["quantize"].endswith(f"quantized model: {demo.quantized}\n")
        assert f"bundle: {demo.folder / 'bundle'} (1 step group)\n" in said["compile"]
        assert f"bit-exact: {demo.compiled.exactness['calls']} kernel calls" in said["compile"]
        assert re.search(r"^kernels: product \d+x\d+x\d+: \w+, \d+ calls?", said["compile"], re.MULTILINE)
        assert "kernels: attention: " in said["compile"] and "kernels: rows: " in said["compile"]
        assert "left in float" not in said["compile"]

    def test_export_says_how_many_steps(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["export", "--quantized", str(demo.quantized), "--prompts", str(demo.prompts)]
        assert main([*words, "--output", str(tmp_path / "e")]) == 0
        assert capsys.readouterr().out == f"graphs: {tmp_path / 'e'} (20 steps)\n"
        assert len(list((tmp_path / "e").glob("step_*.onnx"))) == 40
        assert (tmp_path / "e" / "decoder.onnx").is_file()

    def test_merge_joins_ranges(self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output = tmp_path / "all.safetensors"
        assert main(["calibrate", "--merge", str(demo.ranges), str(demo.ranges), "--output", str(output)]) == 0
        assert capsys.readouterr().out == f"ranges: {output}\n"
        assert load_ranges(output).prompts == load_ranges(demo.ranges).prompts

    def test_build_and_demo_pass_their_words_on(
        self, monkeypatch: pytest.MonkeyPatch, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from tvm_flow.pipeline import demo as demo_module

        (tmp_path / "b.yaml").write_text(yaml.safe_dump({"prompts": "p", "recipe": "r", "output": "o"}))
        monkeypatch.setattr(
            stages, "build", lambda config, say: (demo.compiled, got.append(config.output), say("quantize: current"))[0]
        )
        monkeypatch.setattr(demo_module, "run_demo", lambda output, clips: {"output": str(output), "clips": clips})
        got: list[Any] = []
        assert main(["build", str(tmp_path / "b.yaml")]) == 0
        assert got == [tmp_path / "o"]
        assert capsys.readouterr().out.startswith("quantize: current\nbundle: ")
        assert main(["demo", "--output", "here", "--clips", "3"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"output": "here", "clips": 3}

    def test_compile_says_what_to_link_with(
        self, monkeypatch: pytest.MonkeyPatch, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        got: list[Any] = []
        monkeypatch.setattr(stages, "compile_stage", lambda *words: (demo.compiled, got.append(words))[0])
        assert main(["compile", "--output", str(tmp_path / "b"), "--emit", "static", "--threads", "2"]) == 0
        records = output_folder() / "records"  # what tune left there, if anything
        options = CompileOptions(2, emit=Emit.STATIC, records=records)
        assert [words[1:] for words in got] == [("host", tmp_path / "b", options)]
        assert (
            f"link with: the archives in {tmp_path}/b/lib, headers in {tmp_path}/b/include\n" in capsys.readouterr().out
        )
        assert main(["compile", "--output", str(tmp_path / "b")]) == 0
        assert got[-1][-1] == CompileOptions(records=records) and "link with" not in capsys.readouterr().out


class TestRun:
    def test_writes_a_gif_of_all_frames_for_each_prompt(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prompts, bundle = [PROMPT, "green sandal going right"], demo.folder / "bundle"
        words = ["run", *prompts, "--bundle", str(bundle), "--output", str(tmp_path / "v"), "--seed", "5"]
        words = [*words[:1], "--threads", "1", "--format", "gif", *words[1:]]
        assert main(words) == 0
        names = ["00_a_red_sneaker_moving_left.gif", "01_green_sandal_going_right.gif"]
        assert capsys.readouterr().out == "".join(f"video: {tmp_path / 'v' / name}\n" for name in names)
        for name in names:
            with Image.open(tmp_path / "v" / name) as image:
                assert (image.n_frames, image.format) == (8, "GIF")  # type: ignore[attr-defined]
                assert image.info["duration"] == 130 or image.info["duration"] == 120
        with safe_open(tmp_path / "v" / "latents.safetensors", framework="numpy") as file:
            latents = file.get_tensor("latents")
            assert file.metadata() == {"prompts": "\n".join(prompts)}
        noise = noise_for(latents.shape[1:], [5, 6])
        again = generate_latents(bundle, prompts, noise, demo.source.embed, Generation(threads=1), progress=False)
        np.testing.assert_array_equal(latents, again)
        self.second_run(words, tmp_path / "v", capsys)

    def test_a_cpu_that_is_not_there_is_named(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["run", PROMPT, "--bundle", str(demo.folder / "bundle"), "--output", str(tmp_path / "v")]
        line = refused(capsys, *words, "--cpus", "1023")
        assert "options.cpus[0]: expected a CPU that is there, online and allowed for this process, got 1023" in line

    def second_run(self, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = mtimes(folder)
        assert main(words) == 0
        assert mtimes(folder) == before
        next(folder.glob("01*")).unlink()
        assert main(words) == 0
        assert set(mtimes(folder)) == set(before)
        before = mtimes(folder)
        capsys.readouterr()
        line = refused(capsys, *words[:-1], "6")
        assert "latents.safetensors: expected no file of another run in the way" in line
        assert mtimes(folder) == before

    def test_what_nobody_named_a_place_for_goes_beside_the_bundle(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(demo.compiled.bundle, tmp_path / "x" / "bundle")
        words = ["run", PROMPT, "--bundle", str(tmp_path / "x" / "bundle"), "--threads", "1"]
        for number, folder in (("1", "videos"), ("2", "videos_2"), ("1", "videos")):
            assert main([*words, "--seed", number]) == 0
            path = tmp_path / "x" / folder / "00_a_red_sneaker_moving_left.mp4"
            assert capsys.readouterr().out == f"video: {path}\n"
            assert path.is_file()

    def test_one_video_goes_to_the_file_that_is_named(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["run", PROMPT, "--bundle", str(demo.compiled.bundle), "--threads", "1", "--output"]
        assert main([*words, str(tmp_path / "clip.mp4")]) == 0
        assert (tmp_path / "clip.mp4").is_file()
        assert "clip.avi: expected .mp4" in refused(capsys, *words, str(tmp_path / "clip.avi"))
        assert "expected one video for one file, got 3" in refused(
            capsys, *words, str(tmp_path / "more.mp4"), "--count", "3"
        )

    def test_a_japanese_prompt_of_82_characters_is_a_file(self, demo: SmallDemo, tmp_path: Path) -> None:
        text = ("赤い運動靴が左へゆっくりと動いていく様子" * 5)[:82]
        tokens, mask = demo.source.embed([PROMPT])
        save_embeddings(tmp_path / "e", [text], tokens, mask.sum(1))
        words = ["run", text, "--bundle", str(demo.compiled.bundle), "--prompt-embeddings", str(tmp_path / "e")]
        assert main([*words, "--threads", "1", "--output", str(tmp_path / "v")]) == 0
        (mp4,) = (tmp_path / "v").glob("*.mp4")
        assert mp4.stem == f"00_{text[:26]}"

    def test_prompts_come_from_a_file_too(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["run", "--bundle", str(demo.compiled.bundle), "--threads", "1", "--output", str(tmp_path / "v")]
        (tmp_path / "p.txt").write_bytes(f"\ufeff{PROMPT}\r\n\n green sandal going right \n".encode())
        assert main([*words, "--prompts", str(tmp_path / "p.txt"), "--format", "png"]) == 0
        names = [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.splitlines()]
        assert names == ["00_a_red_sneaker_moving_left", "01_green_sandal_going_right"]
        (tmp_path / "empty").write_text("\n \n")
        assert "empty: expected at least one prompt" in refused(capsys, *words, "--prompts", str(tmp_path / "empty"))
        assert "gone: expected readable text" in refused(capsys, *words, "--prompts", str(tmp_path / "gone"))

    def test_another_sampler_is_refused_before_anything_runs(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["run", PROMPT, "--bundle", str(demo.folder / "bundle"), "--output", str(tmp_path / "v")]
        for more, asked in (
            (["--steps", "50"], '"steps": 50'),
            (["--sampler", "ddim"], '"name": "ddim"'),
            (["--cfg-scale", "7.5"], '"cfg_scale": 7.5'),
        ):
            line = refused(capsys, *words, *more)
            assert '"name": "rflow"' in line and '"steps": 20' in line and '"cfg_scale": 3.0' in line
            assert asked in line and "for the other sampler" in line
        assert not (tmp_path / "v").exists()

    def test_a_damaged_bundle_is_refused_and_compile_repairs_it(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Compile must not answer that the bundle is current, when run says to compile it again."""
        bundle = tmp_path / "bundle"
        shutil.copytree(demo.folder / "bundle", bundle)
        shutil.copy(stamp_path(demo.folder / "bundle"), tmp_path)
        weights = (bundle / "weights.bin").read_bytes()
        (bundle / "weights.bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
        assert "weights.bin" in refused(capsys, "run", PROMPT, "--bundle", str(bundle), "--output", str(tmp_path / "v"))
        repaired = []
        monkeypatch.setattr("tvm_flow.compile.command._compile", lambda *_: repaired.append(1) or demo.compiled)
        assert main(["compile", "--export", str(demo.folder / "export"), "--output", str(bundle)]) == 0
        assert repaired


class TestLooking:
    def test_inspect_and_diff_tell_of_bundles(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = str(demo.compiled.bundle)
        assert main(["inspect", bundle]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"bundle: {bundle}, whole;") and "model: STDiT3, depth 4, hidden 96" in said
        shutil.copytree(bundle, tmp_path / "other")
        assert main(["diff", bundle, str(tmp_path / "other")]) == 0
        assert capsys.readouterr().out == "no difference\n"
        assert "manifest.json" in refused(capsys, "diff", bundle, str(tmp_path))

    def test_compare_prints_a_line_for_each_step(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["compare", PROMPT, "--bundle", str(demo.compiled.bundle), "--output", str(tmp_path / "c")]
        assert main([*words, "--threads", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["step", "1", "2", "latents:", "frames:", "sheet:", "figures:"]
        assert lines[-2:] == [f"sheet: {tmp_path}/c/sheet.png", f"figures: {tmp_path}/c/comparison.json"]
