"""The run command: prompts to video files, or to latents where nothing can decode them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.numpy import load_file, save

from tvm_flow.artifact import exclusive, is_current, make_stamp, stamped, write_bytes
from tvm_flow.calibrate.prompts import MAX_SEED
from tvm_flow.calibrate.run import Embed
from tvm_flow.demo import LATENT_SHAPE
from tvm_flow.demo.assets import WEIGHTS
from tvm_flow.demo.sheet import GIF_FPS
from tvm_flow.errors import BundleError, ConfigError
from tvm_flow.opensora import load_embeddings
from tvm_flow.opensora.embeddings import FILE
from tvm_flow.pack import read_golden, read_manifest
from tvm_flow.pack.format import MANIFEST
from tvm_flow.pack.manifest import require_checked
from tvm_flow.pack.trust import Trust, verify_signature
from tvm_flow.pipeline.asked import demo_captions
from tvm_flow.pipeline.decode import Frames, check_here
from tvm_flow.pipeline.embed import folder_files
from tvm_flow.pipeline.generate import Floats, Generation, generate_latents, noise_for
from tvm_flow.pipeline.outputs import LATENTS, Outputs, place_outputs, run_id, suffix_of
from tvm_flow.pipeline.video_file import FORMATS, write_video


@dataclass(frozen=True)
class VideoRequest:
    """What to make of a bundle.

    ===========  ===========================================================================================
    bundle       its folder
    prompts      each makes ``count`` videos; the k-th of all has the seed ``seed`` + k
    output       a folder, or one file whose suffix says what it holds; None for a free folder beside the bundle
    format       a key of FORMATS; None for what ``output`` says, or MP4
    embeddings   a file of `tvm_flow.opensora.embeddings` with the prompts; the demo's captions when None
    autoencoder  a local folder for `load_autoencoder`, instead of the bundle's own decoder
    negative     a prompt for the unconditional branch; None for the null caption
    threads      of `Workers`, as are ``cpus``
    unchecked    run a bundle that was compiled with --check none
    trust        run only a bundle that is signed as it says; None for any
    ===========  ===========================================================================================
    """

    bundle: Path
    prompts: Sequence[str]
    output: Path | None = None
    format: str | None = None
    seed: int = 0
    count: int = 1
    negative: str | None = None
    embeddings: Path | None = None
    autoencoder: Path | None = None
    threads: int = 0
    cpus: Sequence[int] = ()
    unchecked: bool = False
    trust: Trust | None = None

    @property
    def captions(self) -> list[str]:
        """One a video."""
        return [prompt for prompt in self.prompts for _ in range(self.count)]

    @property
    def seeds(self) -> range:
        """One a video."""
        return range(self.seed, self.seed + len(self.prompts) * self.count)

    @property
    def frames(self) -> Frames:
        """What decodes."""
        return Frames(self.bundle, self.autoencoder, self.threads, self.cpus, self.unchecked, self.trust)


def write_videos(wanted: VideoRequest) -> list[Path]:
    """The files that were asked for: a video for each prompt and seed, or one of latents; latents are always kept.

    Nothing is done when they are there, whole and from this bundle. Before anything is generated its inputs and outputs
    are checked, and the bundle must repeat its golden output: it may have been compiled on another machine.

    Raises BundleError when it does not, or when a video is asked for and there is neither a decoder in the bundle nor
    an autoencoder; PromptError for a prompt without an embedding; ConfigError for an output that another run has
    written to, or a format that cannot be written; OSError when nothing can be written; what `load_autoencoder` raises.
    """
    if not wanted.prompts or wanted.count < 1 or wanted.seeds.stop - 1 > MAX_SEED:
        raise ConfigError(
            f"run: expected prompts and seeds up to 2**63 - 1, got {len(wanted.prompts)} prompts, {wanted.count} of "
            f"each, from seed {wanted.seed}; correct them"
        )
    _require_trusted(wanted)
    require_checked(wanted.bundle, read_manifest(wanted.bundle), wanted.unchecked)
    golden = read_golden(wanted.bundle)
    suffix = _suffix(wanted, golden.noise.shape)
    embed = _embed(wanted.bundle, wanted.embeddings, golden.cond.tokens.shape)
    for prompt in (*wanted.prompts, *([] if wanted.negative is None else [wanted.negative])):
        embed([prompt])  # an unknown one fails before anything is generated
    inputs, options = _made_from(wanted)
    run = run_id(inputs, options)
    place = place_outputs(wanted.bundle, wanted.captions, wanted.output, suffix, run)
    stamp = make_stamp(inputs, options | {"run": run}, __name__)
    shown = make_stamp(inputs | _decoded_by(wanted), options | {"run": run, "suffix": suffix}, __name__)
    with exclusive(place.latents):
        _write(wanted, place, embed, (stamp, shown))
    return list(place.videos or [place.latents])


def remarks(wanted: VideoRequest) -> list[str]:
    """What a person should know beside what is written; raises SignatureError before anything else is read."""
    _require_trusted(wanted)
    suffix, said = _suffix(wanted, read_golden(wanted.bundle).noise.shape), []
    if not read_manifest(wanted.bundle).checked:
        said.append("unchecked bundle (--check none): nothing that it computes was ever compared with the reference")
    if wanted.negative is not None:
        said.append("negative prompt: the unconditional branch was calibrated for the null caption; what leaves its "
                    "ranges is cut off")  # fmt: skip
    if suffix == ".gif" and (fps := _fps(wanted.bundle)) > GIF_FPS:
        said.append(f"GIF: shows {GIF_FPS:g} of {fps:g} frames a second; --format mp4 or webp keeps all")
    if suffix == LATENTS and wanted.output is None and wanted.format is None:
        said.append("no decoder in this bundle: latents are written; --autoencoder FOLDER makes videos of them")
    return said


def _require_trusted(wanted: VideoRequest) -> None:
    if wanted.trust is not None:
        verify_signature(wanted.bundle, wanted.trust)


def _fps(bundle: Path) -> float:
    return float(read_manifest(bundle).sampler["fps"])


def _suffix(wanted: VideoRequest, shape: tuple[int, ...]) -> str:
    asked = suffix_of(wanted.output, wanted.format)
    if wanted.frames.possible:
        return FORMATS["mp4"] if asked is None else asked
    if asked not in (None, LATENTS):
        raise BundleError(
            f"{wanted.bundle}: expected a decoder for {asked or 'PNG'} files, or latents {LATENT_SHAPE} of the demo "
            f"model, got latents {shape} without; give the folder of their autoencoder (--autoencoder), or leave "
            "out what names the format to have latents written"
        )
    return LATENTS


def _write(wanted: VideoRequest, place: Outputs, embed: Embed, stamps: tuple[dict[str, object], ...]) -> None:
    """Latents and then videos, each only where it is not current."""
    stamp, shown = stamps
    todo = [k for k, path in enumerate(place.videos) if not is_current(path, shown)]
    have = is_current(place.latents, stamp)
    if have and not todo:
        return
    frames = wanted.frames
    calls = check_here(frames)
    latents = load_file(place.latents)["latents"] if have else _generate(wanted, embed)
    if not have:
        with stamped(place.latents, stamp):
            write_bytes(place.latents, save({"latents": latents}, metadata={"prompts": "\n".join(wanted.captions)}))
    if not todo:
        return
    fps = _fps(wanted.bundle)
    for k, video in zip(todo, frames.videos(torch.from_numpy(latents[todo]), calls), strict=True):
        with stamped(place.videos[k], shown):
            write_video(place.videos[k], video, fps)


def _generate(wanted: VideoRequest, embed: Embed) -> Floats:
    how = Generation(1, wanted.threads, wanted.cpus, wanted.seeds, wanted.negative, wanted.unchecked, wanted.trust)
    noise = noise_for(read_golden(wanted.bundle).noise.shape, wanted.seeds)
    return generate_latents(wanted.bundle, wanted.captions, noise, embed, how)


def _embed(bundle: Path, path: Path | None, shape: tuple[int, ...]) -> Embed:
    if path is None:
        return demo_captions(bundle, shape)
    found = load_embeddings(path)
    found.require_shape(*shape)
    return found.batch


def _made_from(wanted: VideoRequest) -> tuple[dict[str, Path], dict[str, object]]:
    """Files and choices that the latents depend on."""
    tokens = WEIGHTS if wanted.embeddings is None else wanted.embeddings
    inputs = {"bundle": wanted.bundle / MANIFEST, "captions": tokens / FILE if tokens.is_dir() else tokens}
    return inputs, {"prompts": wanted.captions, "seed": wanted.seed, "negative": wanted.negative}


def _decoded_by(wanted: VideoRequest) -> dict[str, Path]:
    """Files beside the bundle's that frames depend on."""
    folder = wanted.autoencoder
    files = {"weights": WEIGHTS / "vae.safetensors"} if folder is None else folder_files(folder)
    return {f"autoencoder {name}": path for name, path in files.items()}
