"""Stages find trouble early, keep other writers away, and recover from a command that was killed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from support.small_demo import PROMPT, RECIPE, STEPS, SmallDemo

from tvm_flow.artifact import exclusive, stamp_path
from tvm_flow.calibrate import load_ranges
from tvm_flow.calibrate.record import ranges_bytes
from tvm_flow.errors import BundleError, CalibrationError, ConfigError, ExportError, QuantizeError
from tvm_flow.export.write import UNFINISHED
from tvm_flow.pipeline import exporting, stages
from tvm_flow.pipeline.asked import require_sampler
from tvm_flow.pipeline.config import load_build_config
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.pipeline.sizes import export_bytes
from tvm_flow.pipeline.source import Source
from tvm_flow.pipeline.stages import build, compile_stage, merge_stage, quantize_stage
from tvm_flow.quantize.estimate import quantized_bytes
from tvm_flow.quantize.recipe import load_recipe
from tvm_flow.room import bytes_in
from tvm_flow.sampler import SamplerConfig


@pytest.fixture
def exports(demo: SmallDemo, tmp_path: Path) -> Path:
    """A copy of the finished export."""
    shutil.copytree(demo.folder / "export", tmp_path / "export")
    shutil.copy(stamp_path(demo.folder / "export"), tmp_path)
    return tmp_path / "export"


def mtimes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


class TestExport:
    def test_the_copy_is_current(self, demo: SmallDemo, exports: Path) -> None:
        before = mtimes(exports)
        export_stage(demo.source, demo.quantized, demo.prompts, exports, STEPS)
        assert mtimes(exports) == before

    def test_other_steps_are_exported(self, demo: SmallDemo, exports: Path) -> None:
        exported = export_stage(demo.source, demo.quantized, demo.prompts, exports, range(1, 2))
        assert [row[0].name for row in exported.graphs] == ["step_001_cond.onnx"]
        assert list(exported.timesteps) == [demo.exported.timesteps[1]]

    def test_another_first_prompt_is_exported_and_only_that_matters(
        self, demo: SmallDemo, exports: Path, tmp_path: Path
    ) -> None:
        prompts, before = tmp_path / "prompts.yaml", mtimes(exports)
        prompts.write_text(f"seed: 3\nprompts: [{PROMPT}, red bag going up]\n")
        export_stage(demo.source, demo.quantized, prompts, exports, STEPS)
        assert mtimes(exports) == before
        prompts.write_text("prompts: [red bag going up]\n")
        exported = export_stage(demo.source, demo.quantized, prompts, exports, STEPS)
        assert exported.caption.tobytes() != demo.exported.caption.tobytes()

    def test_a_text_encoder_with_other_tokens_is_noticed(self, demo: SmallDemo, exports: Path) -> None:
        def louder(captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
            tokens, mask = demo.source.embed(captions)
            return tokens * 2, mask

        exported = export_stage(replace(demo.source, embed=louder), demo.quantized, demo.prompts, exports, STEPS)
        assert (exported.caption == 2 * demo.exported.caption).all()

    def test_a_killed_export_is_made_again(self, demo: SmallDemo, exports: Path) -> None:
        """Killed before its last file, the next run of any options must not believe the older stamp."""
        (exports / "export.json").rename(exports / UNFINISHED)
        with pytest.raises(ExportError, match="run tvm-flow export"):
            compile_stage(exports, "host", exports.parent / "bundle")
        exported = export_stage(demo.source, demo.quantized, demo.prompts, exports, STEPS)
        assert len(exported.graphs) == len(STEPS)

    def test_a_damaged_graph_is_made_again(self, demo: SmallDemo, exports: Path) -> None:
        graph = exports / "step_000_cond.onnx"
        graph.write_bytes(graph.read_bytes()[:-100])
        export_stage(demo.source, demo.quantized, demo.prompts, exports, STEPS)
        assert graph.read_bytes() == (demo.folder / "export" / graph.name).read_bytes()

    def test_an_absent_quantized_model_is_named(self, demo: SmallDemo, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"quantized .*absent: expected a readable file"):
            export_stage(demo.source, tmp_path / "absent", demo.prompts, tmp_path / "export", STEPS)
        assert not (tmp_path / "export").exists()


class TestOneWriter:
    """A second writer is refused before it touches anything."""

    def test_every_stage(self, demo: SmallDemo, tmp_path: Path) -> None:
        output = tmp_path / "out"
        attempts = [
            lambda: stages.calibrate_stage(demo.source, demo.prompts, output),
            lambda: merge_stage([demo.ranges], output),
            lambda: quantize_stage(demo.source, demo.ranges, RECIPE, output),
            lambda: export_stage(demo.source, demo.quantized, demo.prompts, output, STEPS),
            lambda: compile_stage(demo.exported.folder, "host", output),
        ]
        with exclusive(output):
            for attempt in attempts:
                with pytest.raises(ConfigError, match="another command is writing it"):
                    attempt()
        assert not output.exists()


class TestInputs:
    """Damage is found by the stage that reads it, not shown as another result."""

    def test_a_quantized_model_that_was_changed_is_not_exported(self, demo: SmallDemo, tmp_path: Path) -> None:
        quantized = tmp_path / "q.safetensors"
        for mine, theirs in ((quantized, demo.quantized), (stamp_path(quantized), stamp_path(demo.quantized))):
            shutil.copy(theirs, mine)
        flip(quantized, b"")
        with pytest.raises(ConfigError, match=r"q\.safetensors: expected what tvm-flow quantize wrote"):
            export_stage(demo.source, quantized, demo.prompts, tmp_path / "out", STEPS)

    @pytest.mark.parametrize(("name", "after"), [("weights.bin", b""), ("export.json", b'"cfg_scale": ')])
    def test_an_export_that_was_changed_is_not_compiled(
        self, demo: SmallDemo, tmp_path: Path, name: str, after: bytes
    ) -> None:
        folder = tmp_path / "export"
        shutil.copytree(demo.exported.folder, folder)
        shutil.copy(stamp_path(demo.exported.folder), stamp_path(folder))
        flip(folder / name, after)
        with pytest.raises(ConfigError, match=r"export: expected what tvm-flow export wrote"):
            compile_stage(folder, "host", tmp_path / "out")


def flip(path: Path, after: bytes) -> None:
    """One bit of what follows ``after``."""
    data = bytearray(path.read_bytes())
    data[data.index(after) + len(after)] ^= 1
    path.write_bytes(data)


class TestOutputs:
    """A mistyped output is refused before the work, and what lies there stays."""

    def test_every_stage(self, demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "weights.bin").write_text("mine")
        for work in ("calibrate", "quantize", "compile_bundle", "save_ranges"):
            monkeypatch.setattr(stages, work, lambda *_: pytest.fail("the work started"))
        monkeypatch.setattr(exporting, "export", lambda *_: pytest.fail("the work started"))
        for attempt, kind in (
            (lambda: stages.calibrate_stage(demo.source, demo.prompts, folder), ConfigError),
            (lambda: merge_stage([demo.ranges], folder), ConfigError),
            (lambda: quantize_stage(demo.source, demo.ranges, RECIPE, folder), ConfigError),
            (lambda: export_stage(demo.source, demo.quantized, demo.prompts, folder, STEPS), ExportError),
            (lambda: compile_stage(demo.exported.folder, "host", folder), BundleError),
        ):
            with pytest.raises(kind, match=r"photos: expected .* got a folder.*; choose another"):
                attempt()
        assert [path.name for path in tmp_path.iterdir()] == ["photos"]
        assert (folder / "weights.bin").read_text() == "mine"

    @pytest.mark.parametrize("content", ["notes", "", "quantized", "ranges"])
    def test_a_file_of_another_kind_is_kept(
        self, demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        for work in ("calibrate", "quantize", "save_ranges"):
            monkeypatch.setattr(stages, work, lambda *_: pytest.fail("the work started"))
        theirs = tmp_path / "notes.txt"
        ours = {"quantized": demo.quantized, "ranges": demo.ranges}
        theirs.write_bytes(ours[content].read_bytes() if content in ours else content.encode())
        before = theirs.read_bytes()
        attempts = {
            "a ranges file": [
                lambda: stages.calibrate_stage(demo.source, demo.prompts, theirs),
                lambda: merge_stage([demo.ranges], theirs),
            ],
            "a quantized model": [lambda: quantize_stage(demo.source, demo.ranges, RECIPE, theirs)],
        }
        attempts.pop({"quantized": "a quantized model", "ranges": "a ranges file"}.get(content, ""), None)
        for what, those in attempts.items():
            for attempt in those:
                with pytest.raises(
                    ConfigError, match=rf"notes\.txt: expected nothing or {what} to replace, got another"
                ):
                    attempt()
        assert theirs.read_bytes() == before

    def test_a_damaged_file_of_our_own_is_made_again(self, demo: SmallDemo, tmp_path: Path) -> None:
        output = tmp_path / "quantized.safetensors"
        quantize_stage(demo.source, demo.ranges, RECIPE, output)
        output.write_bytes(output.read_bytes()[:1000])
        quantize_stage(demo.source, demo.ranges, RECIPE, output)
        assert output.read_bytes() == demo.quantized.read_bytes()


class TestSampler:
    """What was made for one sampler is not used for another."""

    @pytest.fixture
    def other(self, demo: SmallDemo) -> Source:
        return replace(demo.source, sampler=SamplerConfig(name="ddim", steps=20))

    def test_every_stage_shows_both(self, demo: SmallDemo, other: Source, tmp_path: Path) -> None:
        have = demo.source.sampler
        for attempt, file in (
            (lambda: quantize_stage(other, demo.ranges, RECIPE, tmp_path / "q"), demo.ranges),
            (lambda: export_stage(other, demo.quantized, demo.prompts, tmp_path / "e", STEPS), demo.quantized),
        ):
            with pytest.raises(ConfigError) as caught:
                attempt()
            message = str(caught.value)
            assert message.startswith(f"{file}: its per-step tables were made for the sampler {{")
            for sampler in (have, other.sampler):
                assert json.dumps(sampler.to_dict(), sort_keys=True) in message
            assert f"or go on with the sampler of {file.name}" in message
        with pytest.raises(CalibrationError, match=r"sampler differs; have .*rflow.* but require .*ddim"):
            stages.calibrate_stage(other, demo.prompts, demo.ranges)
        assert list(tmp_path.iterdir()) == []

    def test_an_unreadable_file_is_named(self, demo: SmallDemo, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("{}")
        with pytest.raises(CalibrationError, match="x: expected a readable ranges file"):
            quantize_stage(demo.source, tmp_path / "x", RECIPE, tmp_path / "q")
        with pytest.raises(QuantizeError, match="x: expected a readable quantized model"):
            export_stage(demo.source, tmp_path / "x", demo.prompts, tmp_path / "e", STEPS)

    @pytest.mark.parametrize(
        "asked", [{"sampler": "iddpm"}, {"steps": 21}, {"cfg_scale": 7.0}, {"sampler": "rflow", "steps": 5}]
    )
    def test_a_bundle_runs_no_other(self, demo: SmallDemo, asked: dict[str, Any]) -> None:
        have = demo.source.sampler.to_dict()
        names = {"sampler": "name"}
        want = have | {names.get(key, key): value for key, value in asked.items()}
        with pytest.raises(ConfigError) as caught:
            require_sampler(demo.compiled.bundle, **asked)
        assert json.dumps(have, sort_keys=True) in str(caught.value)
        assert json.dumps(want, sort_keys=True) in str(caught.value)

    def test_a_bundle_runs_its_own_however_it_is_named(self, demo: SmallDemo, tmp_path: Path) -> None:
        bundle, sampler = demo.compiled.bundle, demo.source.sampler
        (tmp_path / "same.yaml").write_text(yaml.safe_dump(sampler.to_dict()))
        require_sampler(bundle)
        require_sampler(bundle, "rflow", sampler.steps, sampler.cfg_scale)
        require_sampler(bundle, str(tmp_path / "same.yaml"))
        (tmp_path / "other.yaml").write_text(yaml.safe_dump({"name": "ddim"}))
        with pytest.raises(ConfigError, match=r'"name": "rflow".*"name": "ddim".*run it as it is'):
            require_sampler(bundle, str(tmp_path / "other.yaml"))
        with pytest.raises(ConfigError, match=r"euler: expected a readable YAML sampler"):
            require_sampler(bundle, "euler")


class TestMerge:
    def test_parts_are_joined(self, demo: SmallDemo, tmp_path: Path) -> None:
        ranges, output = load_ranges(demo.ranges), tmp_path / "all.safetensors"
        other = replace(ranges, prompts=(replace(ranges.prompts[0], seed=77),))
        stages.save_ranges(tmp_path / "other.safetensors", other)
        merge_stage([demo.ranges, tmp_path / "other.safetensors"], output)
        assert [prompt.seed for prompt in load_ranges(output).prompts] == [0, 77]
        merge_stage([demo.ranges], output)
        assert output.read_bytes() == demo.ranges.read_bytes()

    def test_parts_of_another_model_leave_the_output(self, demo: SmallDemo, tmp_path: Path) -> None:
        output = tmp_path / "all.safetensors"
        stages.save_ranges(tmp_path / "other.safetensors", replace(load_ranges(demo.ranges), model_sha256="0" * 64))
        merge_stage([demo.ranges], output)
        with pytest.raises(CalibrationError):
            merge_stage([demo.ranges, tmp_path / "other.safetensors"], output)
        assert output.read_bytes() == demo.ranges.read_bytes()


class TestBuild:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"recipe": "absent.yaml"}, "absent.yaml"),
            ({"target": "z80"}, "target 'z80'"),
            ({"prompts": "absent.yaml"}, "absent.yaml"),
            ({"latent": [1, 2, 3, 4]}, "model demo: expected no latent"),
        ],
    )
    def test_mistakes_are_found_before_the_first_stage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str
    ) -> None:
        """Calibration can take hours; a recipe that does not exist must not be found after it."""
        monkeypatch.setattr(stages, "calibrate", lambda *_: pytest.fail("calibration started"))
        values = {"prompts": "p.yaml", "recipe": str(RECIPE), "output": "out"} | change
        (tmp_path / "p.yaml").write_text(f"prompts: [{PROMPT}]\n")
        (tmp_path / "build.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(ConfigError, match=message):
            build(load_build_config(tmp_path / "build.yaml"))

    def test_a_recipe_that_does_not_fit_the_model_is_found_before_the_first_stage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stages, "calibrate", lambda *_: pytest.fail("calibration started"))
        (tmp_path / "p.yaml").write_text(f"prompts: [{PROMPT}]\n")
        (tmp_path / "r.yaml").write_text("keep_float: ['*.fc3']\n")
        (tmp_path / "b.yaml").write_text(yaml.safe_dump({"prompts": "p.yaml", "recipe": "r.yaml", "output": "out"}))
        with pytest.raises(ConfigError, match=r"pattern '\*\.fc3' matches no layer"):
            build(load_build_config(tmp_path / "b.yaml"))

    def test_a_disk_that_is_too_small_is_found_before_the_first_stage(
        self, demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stages, "calibrate", lambda *_: pytest.fail("calibration started"))
        values = {"prompts": str(demo.prompts), "recipe": str(RECIPE), "output": "out"}
        (tmp_path / "b.yaml").write_text(yaml.safe_dump(values))
        config = load_build_config(tmp_path / "b.yaml")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tvm_flow.room.shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000))
            with pytest.raises(ConfigError, match=r"out: expected to write here, got: 5.0 MB free .* of about \d\d"):
                build(config)
        assert not config.output.exists()
        (tmp_path / "b.yaml").write_text(yaml.safe_dump(values | {"output": "o" * 240}))
        with pytest.raises(ConfigError, match="got: a name of 240 bytes, of at most 229"):
            build(load_build_config(tmp_path / "b.yaml"))

    def test_estimates_are_close_to_what_is_written(self, demo: SmallDemo) -> None:
        source, steps = demo.source, demo.source.sampler.steps
        ranges, quantized = demo.ranges.stat().st_size, demo.quantized.stat().st_size
        assert ranges / 2 < ranges_bytes(source.model, steps) < 2 * ranges
        assert quantized / 2 < quantized_bytes(source.model, load_recipe(RECIPE), steps) < 2 * quantized
        two_steps = replace(source, sampler=replace(source.sampler, steps=len(STEPS)))
        written = bytes_in(demo.folder / "export")
        assert written / 2 < export_bytes(two_steps, quantized) < 2 * written

    def test_a_current_build_says_so_stage_by_stage(self, demo: SmallDemo, tmp_path: Path) -> None:
        (tmp_path / "b.yaml").write_text(
            yaml.safe_dump({"prompts": str(demo.prompts), "recipe": str(RECIPE), "output": "out"})
        )
        config = load_build_config(tmp_path / "b.yaml")
        config.output.mkdir()
        config.ranges.write_bytes(demo.ranges.read_bytes())
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "export_stage", lambda *_: None)
            patch.setattr(stages, "compile_stage", lambda *_: None)
            build(config, said.append)
            first, said[:] = said[:], []
            build(config, said.append)
        assert first[:2] == [f"calibrate: current ({config.ranges})", f"quantize: done ({config.quantized})"]
        assert said[:2] == [f"calibrate: current ({config.ranges})", f"quantize: current ({config.quantized})"]
        assert "SQNR dB" in said[2]

    def test_stages_feed_each_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[tuple[str, ...]] = []
        for name in ("calibrate", "quantize", "export", "compile"):
            monkeypatch.setattr(
                stages,
                f"{name}_stage",
                lambda *args, name=name: seen.append((name, *(a.name for a in args if isinstance(a, Path)))),
            )
        monkeypatch.setattr(stages, "load_quantized", lambda path: path.name)
        monkeypatch.setattr(stages, "summary", lambda name: f"table of {name}")
        (tmp_path / "p.yaml").write_text(f"prompts: [{PROMPT}]\n")
        (tmp_path / "b.yaml").write_text(
            yaml.safe_dump({"prompts": "p.yaml", "recipe": str(RECIPE), "output": "out", "target": "x86-64-v2"})
        )
        said: list[str] = []
        build(load_build_config(tmp_path / "b.yaml"), said.append)
        assert [line.split()[0] for line in said] == ["calibrate:", "quantize:", "table", "export:", "compile:"]
        assert seen == [
            ("calibrate", "p.yaml", "ranges.safetensors"),
            ("quantize", "ranges.safetensors", "w8a8.yaml", "quantized.safetensors"),
            ("export", "quantized.safetensors", "p.yaml", "export"),
            ("compile", "export", "bundle"),
        ]
