"""The prompts that a calibration runs, each with the seed of its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tvm_flow.errors import CalibrationError, ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, read_yaml, text, whole

_CAPTIONS = "a non-empty list of captions, each a text in quotes"
MAX_SEED = 2**63 - 1
"""Greatest seed that a user may give."""


@dataclass(frozen=True)
class CalibrationPrompt:
    """A caption and the seed of the noise that its trajectory starts from."""

    text: str
    seed: int


@dataclass(frozen=True)
class _PromptFile:
    prompts: Annotated[tuple[Annotated[str, text()], ...], described(_CAPTIONS, least=1)]
    seed: Annotated[int, whole(0, MAX_SEED)] = 0

    def __post_init__(self) -> None:
        check_fields(self, "")


def expect_prompts(prompts: Sequence[CalibrationPrompt]) -> None:
    """Raise CalibrationError for none."""
    if not prompts:
        raise CalibrationError("prompts: expected at least one, got none; name a prompt file with captions")


def load_prompts(path: Path) -> tuple[CalibrationPrompt, ...]:
    """Read a prompt set, a YAML file: ``prompts``, a list of captions, and ``seed`` (0 if absent).

    The k-th caption gets seed + k, so a longer list keeps the trajectories of a shorter one. Raises ConfigError naming
    the file for an unreadable file, an unknown key, a seed out of range, or a list that is empty or holds anything but
    text.
    """
    content = read_yaml(path, "prompt set")
    try:
        file = from_mapping(_PromptFile, "", content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return tuple(CalibrationPrompt(caption, file.seed + k) for k, caption in enumerate(file.prompts))
