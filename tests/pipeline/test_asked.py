"""Prompts and seeds that a run is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tvm_flow.demo.assets import WEIGHTS
from tvm_flow.errors import ConfigError, PromptError
from tvm_flow.pipeline import asked
from tvm_flow.pipeline.asked import read_prompts


def test_words_come_before_those_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a blue bag\n\n  a red one\n")
    assert read_prompts(["first"], tmp_path / "p", None) == (["first", "a blue bag", "a red one"], 0)
    assert read_prompts(["first"], None, 7) == (["first"], 7)


def test_a_prompt_set_brings_its_seed_unless_another_is_given(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("seed: 40\nprompts: [a, b]\n")
    assert read_prompts([], tmp_path / "p.yaml", None) == (["a", "b"], 40)
    assert read_prompts([], tmp_path / "p.yaml", 0) == (["a", "b"], 0)


def test_what_holds_no_prompt_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\xff\xfe")
    (tmp_path / "q.yaml").write_text("prompts: []")
    with pytest.raises(PromptError, match="p: expected readable text, UTF-8"):
        read_prompts([], tmp_path / "p", None)
    with pytest.raises(ConfigError, match=r"q.yaml: prompts: expected a non-empty list"):
        read_prompts([], tmp_path / "q.yaml", None)
    with pytest.raises(PromptError, match="expected at least one prompt, got none"):
        read_prompts([], None, None)


def with_model(monkeypatch: pytest.MonkeyPatch, **changed: object) -> None:
    ours = json.loads((WEIGHTS / "config.json").read_text())
    manifest = SimpleNamespace(provenance={"model": ours | changed})
    monkeypatch.setattr(asked, "read_manifest", lambda _: manifest)


def test_the_demos_captions_are_for_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with_model(monkeypatch)
    asked.demo_captions(Path("b"), (12, 384))(["a red bag moving left"])
    words = r"b: expected --prompt-embeddings FILE, because only the demo brings .*300 tokens of 4096 .*tvm-flow embed"
    with pytest.raises(PromptError, match=words):
        asked.demo_captions(Path("b"), (300, 4096))
    with_model(monkeypatch, depth=28)
    with pytest.raises(PromptError, match=r"because only the demo brings .*12 tokens of 384 channels"):
        asked.demo_captions(Path("b"), (12, 384))
