"""What somebody asks a bundle for: the sampler, which must be the one that it was made for, and the prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.calibrate.identity import model_sha256
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.calibrate.run import Embed
from tvm_flow.demo import load_captions
from tvm_flow.demo.assets import WEIGHTS
from tvm_flow.errors import ConfigError, PromptError
from tvm_flow.pack import read_manifest
from tvm_flow.pipeline.source import Source, read_sampler
from tvm_flow.run.info import OTHER_SAMPLER
from tvm_flow.sampler import require_same_sampler
from tvm_flow.sampler.config import SAMPLERS


def require_bundle_of(bundle: Path, source: Source) -> None:
    """Raise ConfigError when ``bundle`` is of another model or sampler than ``source``, BundleError when it is none."""
    manifest = read_manifest(bundle)
    require_same_sampler(str(bundle), manifest.sampler, source.sampler.to_dict(), OTHER_SAMPLER)
    digest = model_sha256(source.model)
    if manifest.provenance.get("model_sha256") not in (None, digest):
        raise ConfigError(
            f"{bundle}: expected a bundle of the model with sha256 {digest[:12]}, got one of "
            f"{str(manifest.provenance['model_sha256'])[:12]}; name the checkpoint that it was made from (--model)"
        )


def require_sampler(
    bundle: Path, sampler: str | None = None, steps: int | None = None, cfg_scale: float | None = None
) -> None:
    """Compare what is asked for with the sampler in the manifest of ``bundle``; what is None is as it is there.

    ``sampler`` is rflow, ddim, iddpm or a YAML file with a whole configuration.

    Raises ConfigError showing both configurations when they differ or the file is bad, BundleError when there is no
    bundle.
    """
    have = dict(read_manifest(bundle).sampler)
    if sampler is None or sampler in SAMPLERS:
        want = have | ({} if sampler is None else {"name": sampler})
    else:
        want = read_sampler(Path(sampler)).to_dict()
    changes = {"steps": steps, "cfg_scale": cfg_scale}
    want |= {key: value for key, value in changes.items() if value is not None}
    require_same_sampler(str(bundle), have, want, OTHER_SAMPLER)


def read_prompts(given: Sequence[str], file: Path | None, seed: int | None) -> tuple[list[str], int]:
    """The prompts ``given`` and those of ``file``, and the first video's seed: ``seed``, or that of the file, or 0.

    ``file`` is a YAML prompt set as for calibration (.yaml, .yml), or text with a prompt on each line; empty lines
    count for nothing. Raises ConfigError or PromptError for one that cannot be read, PromptError for no prompt.
    """
    texts = list(given)
    if file is not None and file.suffix.lower() in (".yaml", ".yml"):
        prompts = load_prompts(file)
        texts += [prompt.text for prompt in prompts]
        seed = prompts[0].seed if seed is None else seed
    elif file is not None:
        texts += _lines(file)
    if not texts:
        where = f"{file}: " if file is not None else ""
        raise PromptError(f"{where}expected at least one prompt, got none; name one, or --prompts FILE with some")
    return texts, seed or 0


def demo_captions(bundle: Path, shape: tuple[int, ...]) -> Embed:
    """The captions that the demo's model knows; raises PromptError for a ``bundle`` of another model.

    ``shape`` is [tokens, channels] of its captions.
    """
    captions, model = load_captions(), read_manifest(bundle).provenance.get("model")
    ours = json.loads((WEIGHTS / "config.json").read_text())
    other = isinstance(model, dict) and any(ours.get(key, value) != value for key, value in model.items())
    if other or tuple(captions.tokens.shape[1:]) != shape:
        raise PromptError(
            f"{bundle}: expected --prompt-embeddings FILE, because only the demo brings its captions, got none; "
            f"give the file with the prompts, {shape[0]} tokens of {shape[1]} channels each (tvm-flow embed writes one)"
        )
    return captions.batch


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"{file}: expected readable text, UTF-8, a prompt on each line, got: {error}; check it"
        ) from (error)
    return [line.strip() for line in lines if line.strip()]
