"""Where a run writes: names that every file system takes, and no file of another run overwritten or joined.

Every file of a run has a stamp that names the run: a digest of all that its latents depend on. A run writes over what
it has written itself, and beside files that no run has written; where another run's files lie it is refused, or, where
nobody named a place, goes to the next free one.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tvm_flow.artifact import STAMP, expect_file, probe, sha256_file, stamp_path
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.video_file import FORMATS, SUFFIXES

LATENTS = ".safetensors"
NAME_BYTES = 80
"""Of a prompt in a file name. Some file systems stop at 143; number, suffix, stamp and temporary name need 40."""


@dataclass(frozen=True)
class Outputs:
    """The files of a run: one of latents, and a video of each row of it, or none."""

    latents: Path
    videos: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.latents, *self.videos)


def run_id(inputs: Mapping[str, Path], options: Mapping[str, Any]) -> str:
    """Names a run by what its latents are made from; the inputs must be there."""
    parts = {"inputs": {name: sha256_file(path) for name, path in inputs.items()}, "options": dict(options)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def suffix_of(output: Path | None, asked: str | None) -> str | None:
    """The suffix of the videos: that of ``output`` where it is one file, what ``asked`` says, or None for either.

    Raises ConfigError when they contradict each other, or ``output`` names a format that cannot be written.
    """
    given = output.suffix.lower() if output is not None else ""
    if given in (*SUFFIXES, LATENTS):
        if asked is not None and FORMATS[asked] != given:
            raise ConfigError(f"{output}: expected a name that ends in what --format says, got {asked}; leave one out")
        return given
    kind = mimetypes.guess_type(f"x{given}")[0] or ""
    if kind.startswith(("video/", "image/")):
        raise ConfigError(f"{output}: expected {', '.join(SUFFIXES)} or a folder, got {given}; choose another output")
    return None if asked is None else FORMATS[asked]


def place_outputs(bundle: Path, prompts: Sequence[str], output: Path | None, suffix: str, run: str) -> Outputs:
    """The files of the run ``run`` of ``prompts``, one a video: checked to be free and writable.

    ``output`` is a file, a folder, or None for a folder beside the bundle; latents alone are written where ``suffix``
    is that of latents. Raises ConfigError when another run's file is in the way, OSError when nothing can be written.
    """
    if output is None:
        beside = bundle.parent if bundle.name not in ("", "..") else bundle.resolve().parent
        folders = (beside / ("videos" if number == 1 else f"videos_{number}") for number in count(1))
        found = next(each for each in (_in_folder(f, prompts, suffix) for f in folders) if _other(each, run) is None)
    elif output.suffix.lower() == suffix and suffix:
        found = _one_file(output, prompts)
    else:
        found = _in_folder(output, prompts, suffix)
    for file in found.files:
        if file.suffix:  # the frames of a video lie in a folder
            expect_file(file)
    if (other := _other(found, run)) is not None:
        raise ConfigError(
            f"{other}: expected no file of another run in the way, got this one; choose another --output, leave it out "
            "(then a free folder beside the bundle is taken), or delete it"
        )
    probe(max(found.files, key=lambda path: len(path.name.encode(errors="replace"))))
    return found


def _one_file(output: Path, prompts: Sequence[str]) -> Outputs:
    if output.suffix.lower() == LATENTS:
        return Outputs(output, ())
    if len(prompts) != 1:
        raise ConfigError(f"{output}: expected one video for one file, got {len(prompts)}; name a folder")
    return Outputs(output.with_name(f"{output.stem}.latents{LATENTS}"), (output,))


def _in_folder(folder: Path, prompts: Sequence[str], suffix: str) -> Outputs:
    latents = folder / f"latents{LATENTS}"
    if suffix == LATENTS:
        return Outputs(latents, ())
    digits = max(2, len(str(len(prompts) - 1)))
    return Outputs(latents, tuple(folder / f"{k:0{digits}d}_{file_name(p)}{suffix}" for k, p in enumerate(prompts)))


def _other(outputs: Outputs, run: str) -> Path | None:
    """The first file that is not this run's: where this one writes, or beside that in a folder of several."""
    for path in outputs.files:
        if path.exists() and _stamped_run(path) != run:
            return path
    if outputs.latents.stem == "latents":
        for stamp in sorted(outputs.latents.parent.glob(f".*{STAMP}")):
            path = stamp.with_name(stamp.name.removesuffix(STAMP)[1:])
            if path.exists() and _stamped_run(path) not in (None, run):
                return path
    return None


def _stamped_run(output: Path) -> str | None:
    """The run that wrote ``output``; None when no run says so."""
    try:
        run = json.loads(stamp_path(output).read_text())["options"]["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if isinstance(run, str) else None


def file_name(prompt: str) -> str:
    """Any prompt as a part of a file name: letters, digits and underscores, whole ones in at most 80 bytes."""
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in prompt)
    return kept.encode()[:NAME_BYTES].decode(errors="ignore")
