"""The prompts that a calibration runs, each with the seed of its noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tvm_flow.errors import ConfigError

_KEYS = ("prompts", "seed")
MAX_SEED = 2**63 - 1
"""Greatest seed that a user may give."""


@dataclass(frozen=True)
class CalibrationPrompt:
    """A caption and the seed of the noise that its trajectory starts from."""

    text: str
    seed: int


def load_prompts(path: Path) -> tuple[CalibrationPrompt, ...]:
    """Read a prompt set, a YAML file: ``prompts``, a list of captions, and ``seed`` (0 if absent).

    The k-th caption gets seed + k, so a longer list keeps the trajectories of a shorter one. Raises ConfigError naming
    the file for an unreadable file, an unknown key, a seed out of range, or a list that is empty or holds anything but
    text.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a readable YAML prompt set, got: {error}; check the path") from error
    if not isinstance(content, dict) or not set(content) <= set(_KEYS):
        got = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ConfigError(f"{path}: expected a mapping with keys among {list(_KEYS)}, got {got}")
    seed = content.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"{path}: seed: expected an integer from 0 to 2**63 - 1, got {seed!r}; choose another")
    texts = _texts(path, content.get("prompts"))
    return tuple(CalibrationPrompt(text, seed + k) for k, text in enumerate(texts))


def _texts(path: Path, value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{path}: prompts: expected a non-empty list of captions, got {value!r}")
    for text in value:
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{path}: prompts: expected captions, got {text!r}; put it in quotes")
    return value
