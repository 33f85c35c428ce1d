"""Prompt sets: what they hold, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_flow.calibrate import CalibrationPrompt, load_prompts
from tvm_flow.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    return path


def test_seeds_count_up_from_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 5\nprompts: [a red sneaker, a blue bag]\n")
    assert load_prompts(path) == (CalibrationPrompt("a red sneaker", 5), CalibrationPrompt("a blue bag", 6))


def test_seed_is_zero_by_default_and_a_longer_list_keeps_the_first_prompts(tmp_path: Path) -> None:
    short = load_prompts(write(tmp_path, "prompts: [a, b]"))
    assert short[0].seed == 0
    assert load_prompts(write(tmp_path, "prompts: [a, b, c]"))[:2] == short


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "prompts: [a]\nseeds: 1",
            r"unknown keys \['seeds'\]; have \['prompts', 'seed'\]",
        ),
        ("- a\n- b", "expected a mapping .* got list"),
        ("", "expected a mapping .* got NoneType"),
        ("seed: 1", r"missing keys \['prompts'\]"),
        ("prompts: []", r"prompts: expected a non-empty list of captions, each a text in quotes, got \[\]"),
        ("prompts: a caption", "prompts: expected a non-empty list"),
        ("prompts: [a, 3]", r"prompts: expected a non-empty list of captions, each a text in quotes, got \['a', 3\]"),
        ("prompts: [' ']", r"prompts: expected a non-empty list .* got \[' '\]"),
        ("seed: -1\nprompts: [a]", r"seed: expected a whole number from 0 to 9223372036854775807, got -1"),
        (f"seed: {2**63}\nprompts: [a]", f"seed: expected a whole number from 0 .* got {2**63}"),
        ("seed: true\nprompts: [a]", "seed: expected a whole number from 0 .* got True"),
        ("seed: x\nprompts: [a]", "seed: expected a whole number from 0 .* got 'x'"),
        ("prompts: [", "expected a readable YAML prompt set, got: "),
    ],
)
def test_what_is_no_prompt_set_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)


def test_an_absent_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable YAML prompt set"):
        load_prompts(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected a readable YAML prompt set"):
        load_prompts(tmp_path / "binary.yaml")
