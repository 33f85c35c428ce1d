"""The run command: prompts to video files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.numpy import save
from torch import Tensor

from tvm_flow.artifact import exclusive, is_current, make_stamp, write_bytes, write_stamp
from tvm_flow.calibrate.run import Embed
from tvm_flow.demo import LATENT_SHAPE, load_captions, load_vae
from tvm_flow.demo.assets import WEIGHTS
from tvm_flow.demo.sheet import write_animation
from tvm_flow.errors import BundleError
from tvm_flow.opensora import load_autoencoder, load_embeddings
from tvm_flow.opensora.embeddings import FILE
from tvm_flow.pack import read_decoder, read_golden, read_manifest
from tvm_flow.pack.format import MANIFEST
from tvm_flow.pipeline.embed import folder_files
from tvm_flow.pipeline.generate import generate_latents, noise_for
from tvm_flow.run import Bundle, BundleDecoder, Workers

Decode = Callable[[Tensor], Iterator[Tensor]]
"""Latents [B, C, T, h, w] to videos [F, H, W, 3], uint8 or float in 0..1."""
SHOWN_WIDTH = 256
"""Smaller videos are enlarged by a whole factor to about this width."""


def write_videos(
    bundle: Path,
    prompts: Sequence[str],
    output: Path,
    seed: int = 0,
    threads: int = 0,
    cpus: Sequence[int] = (),
    embeddings: Path | None = None,
    autoencoder: Path | None = None,
) -> list[Path]:
    """One GIF and one ``latents.safetensors`` row per prompt in the folder ``output``; the k-th has seed + k.

    ``embeddings`` is a file of `tvm_flow.opensora.embeddings` that holds the prompts, ``autoencoder`` a local folder
    for `tvm_flow.opensora.load_autoencoder`, used instead of the bundle's own decoder; a bundle of the demo needs
    neither.
    Nothing is done when they are there, whole and from this bundle. Before anything is generated the bundle must repeat
    its golden output: it may have been compiled on another machine. ``threads`` and ``cpus`` are `Workers`'.

    Raises BundleError when it does not, or when there is neither a decoder in the bundle nor an autoencoder;
    PromptError for a prompt without an embedding; what `load_autoencoder` raises.
    """
    golden = read_golden(bundle)
    shape = golden.noise.shape
    sampler = read_manifest(bundle).sampler
    compiled = autoencoder is None and read_decoder(bundle) is not None
    if autoencoder is None and not compiled and shape != LATENT_SHAPE:
        raise BundleError(
            f"{bundle}: expected latents {LATENT_SHAPE} of the demo model, got {shape}; give the folder "
            "of their autoencoder (--autoencoder)"
        )
    embed = load_captions().batch if embeddings is None else _embed(embeddings, golden.cond.tokens.shape)
    for prompt in prompts:
        embed([prompt])  # an unknown one fails before anything is generated
    file = output / "latents.safetensors"
    paths = [output / f"{k:02d}_{_file_name(prompt)}.gif" for k, prompt in enumerate(prompts)]
    with exclusive(file):
        options = {"prompts": list(prompts), "seed": seed}
        stamp = make_stamp(_inputs(bundle, embeddings, autoencoder), options, __name__)
        if not all(is_current(path, stamp) for path in (file, *paths)):
            with Bundle.open(bundle, workers=Workers(threads, cpus)) as opened:
                opened.verify()
            if compiled:
                with BundleDecoder.open(bundle, workers=Workers(threads, cpus)) as decoder:
                    decoder.verify()
            seeds = range(seed, seed + len(prompts))
            noise = noise_for(shape, seeds)
            made = generate_latents(bundle, prompts, noise, embed, threads=threads, seeds=seeds, cpus=cpus)
            write_bytes(file, save({"latents": made}, metadata={"prompts": "\n".join(prompts)}))
            decode = _compiled(bundle, threads, cpus) if compiled else _decoder(autoencoder, int(sampler["frames"]))
            for path, video in zip(paths, decode(torch.from_numpy(made)), strict=True):
                write_animation(path, video, float(sampler["fps"]), max(1, SHOWN_WIDTH // video.shape[2]))
            for path in (*paths, file):
                write_stamp(path, stamp)
    return paths


def _embed(path: Path, shape: tuple[int, ...]) -> Embed:
    found = load_embeddings(path)
    found.require_shape(*shape)
    return found.batch


def _decoder(folder: Path | None, frames: int) -> Decode:
    module = None if folder is None else load_autoencoder(folder)

    def decode(latents: Tensor) -> Iterator[Tensor]:
        for latent in latents:
            one = latent[None]
            yield (load_vae().decode(one) if module is None else module.decode(one, frames))[0]

    return decode


def _compiled(bundle: Path, threads: int, cpus: Sequence[int]) -> Decode:
    """The bundle's own decoder."""

    def decode(latents: Tensor) -> Iterator[Tensor]:
        with BundleDecoder.open(bundle, workers=Workers(threads, cpus)) as decoder:
            for latent in latents:
                yield torch.from_numpy(decoder.decode_rgb8(latent.numpy()))

    return decode


def _inputs(bundle: Path, embeddings: Path | None, autoencoder: Path | None) -> dict[str, Path]:
    """Every file that the videos are made from."""
    tokens = WEIGHTS if embeddings is None else embeddings
    decoder = {"weights": WEIGHTS / "vae.safetensors"} if autoencoder is None else folder_files(autoencoder)
    return {
        "bundle": bundle / MANIFEST,
        "captions": tokens / FILE if tokens.is_dir() else tokens,
        **{f"autoencoder {name}": path for name, path in decoder.items()},
    }


def _file_name(prompt: str) -> str:
    """Any prompt as a part of a file name: letters, digits and underscores, at most 80."""
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in prompt)
    return kept[:80]
