"""Embeddings made elsewhere reach calibration, and a run; the embed command writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.small_demo import PROMPT, SmallDemo
from support.tiny_folders import CHANNELS, PROMPTS, write_t5

from tvm_flow.cli import main
from tvm_flow.demo import load_captions
from tvm_flow.errors import PromptError
from tvm_flow.opensora import load_embeddings, save_embeddings
from tvm_flow.pack import read_golden
from tvm_flow.pack.prompt_file import read_prompt
from tvm_flow.pipeline.embed import prompt_texts
from tvm_flow.pipeline.generate import prompt_pairs
from tvm_flow.pipeline.source import load_source
from tvm_flow.pipeline.stages import calibrate_stage
from tvm_flow.pipeline.videos import VideoRequest, write_videos


@pytest.fixture
def other_words(tmp_path: Path) -> Path:
    """The demo's embedding of one caption under a name that the demo does not know."""
    tokens, length = load_captions()[PROMPT]
    save_embeddings(tmp_path / "e.safetensors", ["my shoe"], tokens[None], torch.tensor([length]))
    return tmp_path / "e.safetensors"


class TestCommand:
    def test_writes_what_load_embeddings_reads(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        encoder, output = write_t5(tmp_path / "t5"), tmp_path / "e.safetensors"
        (tmp_path / "p.yaml").write_text(f"prompts: ['{PROMPTS[1]}', '{PROMPTS[0]}']\n")
        words = ["embed", PROMPTS[0], "--prompts", tmp_path / "p.yaml", "--text-encoder", encoder, "--tokens", 120]
        command = [str(word) for word in [*words, "--channels", CHANNELS, "--output", output]]
        assert main(command) == 0
        assert capsys.readouterr().out == f"prompt embeddings: {output} (2 prompts)\n"
        found = load_embeddings(output)
        assert found.prompts == PROMPTS
        found.require_shape(120, CHANNELS)
        written = output.stat().st_mtime_ns
        assert main(command) == 0
        assert output.stat().st_mtime_ns == written, "nothing is done when it is current"
        assert main([*command, "--dtype", "bfloat16"]) == 0
        assert output.stat().st_mtime_ns > written

    def test_the_xxl_is_expected(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        encoder = write_t5(tmp_path / "t5")
        assert main(["embed", "a cat", "--text-encoder", str(encoder), "--output", str(tmp_path / "e")]) == 2
        assert "expected model_type t5 with d_model 4096, got t5 with 16" in capsys.readouterr().err
        assert not (tmp_path / "e").exists()

    def test_a_file_of_another_kind_is_kept(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        words = ["embed", "a cat", "--text-encoder", str(tmp_path), "--output", str(tmp_path / "notes.txt")]
        assert main(words) == 2
        assert "notes.txt: expected nothing or prompt embeddings to replace, got another" in capsys.readouterr().err
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_prompts_come_once_each_and_from_somewhere(self, tmp_path: Path) -> None:
        (tmp_path / "p.yaml").write_text("prompts: [b, a]\n")
        assert prompt_texts(["a", "c"], tmp_path / "p.yaml") == ["a", "c", "b"]
        with pytest.raises(PromptError, match="expected prompts or --prompts"):
            prompt_texts([], None)


class TestUse:
    def test_calibration_takes_them(self, demo: SmallDemo, other_words: Path, tmp_path: Path) -> None:
        (tmp_path / "p.yaml").write_text("prompts: [my shoe]\n")
        source = load_source(captions=other_words)
        for ours, theirs in zip(source.embed(["my shoe"]), demo.source.embed([PROMPT]), strict=True):
            assert ours.equal(theirs)
        with pytest.raises(PromptError, match="prompt 'my shoe'"):
            calibrate_stage(demo.source, tmp_path / "p.yaml", tmp_path / "ranges.safetensors")

    def test_a_run_takes_them(self, demo: SmallDemo, other_words: Path, tmp_path: Path) -> None:
        bundle = demo.folder / "bundle"
        (ours,) = write_videos(VideoRequest(bundle, ["my shoe"], tmp_path / "ours", threads=1, embeddings=other_words))
        (theirs,) = write_videos(VideoRequest(bundle, [PROMPT], tmp_path / "theirs", threads=1))
        assert ours.name == "00_my_shoe.mp4"
        assert ours.read_bytes() == theirs.read_bytes()
        with pytest.raises(PromptError, match=r"prompt 'a red .*': expected one of the 1 in"):
            write_videos(VideoRequest(bundle, [PROMPT], tmp_path / "no", threads=1, embeddings=other_words))

    def test_of_another_shape_they_are_refused_first(self, demo: SmallDemo, tmp_path: Path) -> None:
        save_embeddings(tmp_path / "e", ["my shoe"], torch.ones(1, 3, 5), torch.tensor([2]))
        for refused in (
            lambda: load_source(captions=tmp_path / "e"),
            lambda: write_videos(
                VideoRequest(demo.folder / "bundle", ["my shoe"], tmp_path / "v", embeddings=tmp_path / "e")
            ),
        ):
            with pytest.raises(PromptError, match=r"expected \d+ tokens of 384 channels .* got 3 of 5"):
                refused()


class TestForBundle:
    """One caption as the file that a C program opens."""

    def test_it_holds_what_run_gives_the_bundle(
        self, demo: SmallDemo, tmp_path: Path, other_words: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle, output = demo.compiled.bundle, tmp_path / "p.bin"
        ((cond, _),) = prompt_pairs(bundle, [PROMPT], demo.source.embed)
        for words in ([PROMPT], ["my shoe", "--captions", str(other_words)]):
            assert main(["embed", *words, "--for-bundle", str(bundle), "--output", str(output)]) == 0
            found = read_prompt(output)
            assert (found.tokens.tobytes(), found.mask.tobytes()) == (cond.tokens.tobytes(), cond.mask.tobytes())
            shown = int((found.mask == 0).sum())
            assert capsys.readouterr().out == f"prompt: {output} ({shown} of {len(found.mask)} tokens)\n"

    def test_a_text_encoder_of_another_model(
        self, demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["embed", "a cat", "--for-bundle", str(demo.compiled.bundle), "--output", str(tmp_path / "p")]
        assert main([*words, "--text-encoder", str(write_t5(tmp_path / "t5"))]) == 2
        channels = read_golden(demo.compiled.bundle).cond.tokens.shape[1]
        assert f"expected model_type t5 with d_model {channels}, got t5 with {CHANNELS}" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([PROMPT, "--output", "notes.txt"], "notes.txt: expected nothing or a prompt file to replace"),
            (["a purple hat"], "prompt 'a purple hat': expected one of the demo's 288 captions"),
            ([PROMPT, "--captions", "a", "--text-encoder", "b"], "expected --captions or --text-encoder, got both"),
        ],
    )
    def test_mistakes_are_one_line(
        self,
        demo: SmallDemo,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "notes.txt").write_text("mine")
        assert main(["embed", *words, "--for-bundle", str(demo.compiled.bundle)]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize("words", [[], ["one", "two"], ["one", "--prompts", "p.yaml"]])
    def test_one_prompt_is_asked_for(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["embed", *words, "--for-bundle", "b"])
        assert "--for-bundle: expected one prompt" in capsys.readouterr().err

    def test_embeddings_need_a_text_encoder(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["embed", "a cat"])
        assert "expected --text-encoder" in capsys.readouterr().err
