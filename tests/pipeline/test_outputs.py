"""Where a run writes: names, and whose files are in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tvm_flow.artifact import stamp_path, write_stamp
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.outputs import Outputs, file_name, place_outputs, suffix_of

JAPANESE = "赤い運動靴が左へゆっくりと動いていく様子" * 5


def written_by(run: str, *files: Path) -> None:
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(run)
        write_stamp(path, {"options": {"run": run}})


def place(folder: Path, output: Path | None, run: str = "mine", prompts: tuple[str, ...] = ("a", "b")) -> Outputs:
    return place_outputs(folder / "bundle", prompts, output, ".mp4", run)


class TestNames:
    def test_any_prompt_makes_a_file_name(self) -> None:
        assert file_name("a t-shirt/../é: *x*") == "a_t-shirt____é___x_"
        assert len(file_name("long " * 100)) == 80

    @pytest.mark.parametrize("prompt", [JAPANESE, "é" * 100, "x" + "é" * 100, "𠮷" * 90, "a" * 300, "\udcff" * 90])
    def test_it_is_cut_by_bytes_at_whole_characters(self, prompt: str) -> None:
        name = file_name(prompt)
        assert 76 < len(name.encode()) <= 80
        assert prompt.startswith(name) or set(name) == {"_"}

    def test_what_is_derived_from_it_fits_a_file_system(self, tmp_path: Path) -> None:
        (tmp_path / "v").mkdir()
        found = place(tmp_path, tmp_path / "v", prompts=(JAPANESE, "𠮷" * 90))
        for path in found.videos:
            assert len(os.fsencode(f".{stamp_path(path).name}.01234567.tmp")) <= 143
            write_stamp(path, {}) if path.exists() else path.write_text("")

    def test_numbers_are_as_long_as_the_last(self, tmp_path: Path) -> None:
        names = [path.name for path in place(tmp_path, tmp_path / "v", prompts=("a",) * 101).videos]
        assert (names[0], names[-1]) == ("000_a.mp4", "100_a.mp4")

    def test_a_name_that_is_too_long_fails_before_the_work(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="File name too long"):
            place(tmp_path, tmp_path / f"{'x' * 240}.mp4", prompts=("a",))
        assert not list(tmp_path.iterdir())


class TestSuffix:
    @pytest.mark.parametrize("name", ["c.mp4", "c.GIF", "c.webp", "c.png", "c.apng", "c.safetensors"])
    def test_a_file_says_its_format(self, name: str) -> None:
        assert suffix_of(Path(name), None) == Path(name).suffix.lower()

    def test_a_folder_takes_what_is_asked_for(self) -> None:
        assert [suffix_of(Path(n), "gif") for n in ("out", "out.v2", "frames/")] == [".gif"] * 3
        assert (suffix_of(Path("out"), None), suffix_of(None, "png")) == (None, "")

    @pytest.mark.parametrize("name", ["c.avi", "c.mov", "c.webm", "c.mkv", "c.jpg"])
    def test_formats_that_cannot_be_written_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=rf"{name}: expected .mp4, .*, got {Path(name).suffix}"):
            suffix_of(Path(name), None)

    def test_a_contradiction_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"c.mp4: expected a name that ends in what --format says, got gif"):
            suffix_of(Path("c.mp4"), "gif")


class TestPlace:
    def test_nothing_named_is_a_free_folder_beside_the_bundle(self, tmp_path: Path) -> None:
        assert place(tmp_path, None).latents == tmp_path / "videos" / "latents.safetensors"
        written_by("theirs", tmp_path / "videos" / "latents.safetensors")
        assert place(tmp_path, None).latents.parent == tmp_path / "videos_2"
        written_by("mine", tmp_path / "videos_2" / "00_a.mp4")
        written_by("theirs", tmp_path / "videos_3" / "01_b.mp4")
        assert place(tmp_path, None).latents.parent == tmp_path / "videos_2", "what this run has begun, it goes on with"
        assert place(tmp_path, None, "another").latents.parent == tmp_path / "videos_4"

    def test_a_bundle_named_by_a_dot_has_a_place_beside_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "bundle").mkdir()
        monkeypatch.chdir(tmp_path / "bundle")
        assert place_outputs(Path(), ["a"], None, ".mp4", "mine").latents.parent == tmp_path / "videos"

    @pytest.mark.parametrize("theirs", ["latents.safetensors", "00_a.mp4", "07_else.gif"])
    def test_a_folder_with_files_of_another_run_is_refused(self, tmp_path: Path, theirs: str) -> None:
        written_by("theirs", tmp_path / "v" / theirs)
        with pytest.raises(ConfigError, match=rf"{theirs}: expected no file of another run in the way"):
            place(tmp_path, tmp_path / "v")

    def test_files_that_no_run_wrote_stay_beside_and_are_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "v").mkdir()
        (tmp_path / "v" / "notes.txt").write_text("")
        (tmp_path / "v" / ".ranges.stamp.json").write_text(json.dumps({"options": {}}))
        (tmp_path / "v" / "ranges").write_text("")
        place(tmp_path, tmp_path / "v")
        (tmp_path / "v" / "01_b.mp4").write_text("a film")
        with pytest.raises(ConfigError, match=r"01_b.mp4: expected no file of another run"):
            place(tmp_path, tmp_path / "v")

    def test_one_file_keeps_its_latents_beside_it(self, tmp_path: Path) -> None:
        found = place(tmp_path, tmp_path / "clip.mp4", prompts=("a",))
        assert found == Outputs(tmp_path / "clip.latents.safetensors", (tmp_path / "clip.mp4",))
        written_by("theirs", tmp_path / "other.mp4")
        place(tmp_path, tmp_path / "clip.mp4", prompts=("a",))
        with pytest.raises(ConfigError, match=r"other.mp4: expected no file of another run"):
            place(tmp_path, tmp_path / "other.mp4", prompts=("a",))
        with pytest.raises(ConfigError, match=r"clip.mp4: expected one video for one file, got 2"):
            place(tmp_path, tmp_path / "clip.mp4")

    def test_a_folder_in_place_of_a_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "clip.mp4").mkdir()
        with pytest.raises(ConfigError, match=r"clip.mp4: expected a file or nothing to write to, got a folder"):
            place(tmp_path, tmp_path / "clip.mp4", prompts=("a",))
