"""The run command: prompts to video files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.numpy import save

from tvm_flow.artifact import exclusive, is_current, make_stamp, write_bytes, write_stamp
from tvm_flow.demo import LATENT_SHAPE, demo_sampler, load_captions, load_vae
from tvm_flow.demo.assets import WEIGHTS
from tvm_flow.demo.sheet import write_animation
from tvm_flow.errors import BundleError
from tvm_flow.pack import read_golden
from tvm_flow.pack.format import MANIFEST
from tvm_flow.pipeline.generate import generate_latents, noise_for
from tvm_flow.run import Bundle


def write_videos(
    bundle: Path, prompts: Sequence[str], output: Path, seed: int = 0, threads: int = 0, cpus: Sequence[int] = ()
) -> list[Path]:
    """One GIF and one ``latents.safetensors`` row per prompt in the folder ``output``; the k-th has seed + k.

    Nothing is done when they are there, whole and from this bundle. Before anything is generated the bundle must repeat
    its golden output: it may have been compiled on another machine. ``threads`` and ``cpus`` are `Bundle.open`'s.

    Raises BundleError when it does not, or when the bundle is not of the demo model, the only one whose autoencoder
    ships.
    """
    shape = read_golden(bundle).noise.shape
    if shape != LATENT_SHAPE:
        raise BundleError(
            f"{bundle}: expected latents {LATENT_SHAPE} of the demo model, got {shape}; decode others with their VAE"
        )
    for prompt in prompts:
        load_captions()[prompt]  # an unknown one fails before anything is generated
    file = output / "latents.safetensors"
    paths = [output / f"{k:02d}_{prompt.replace(' ', '_')}.gif" for k, prompt in enumerate(prompts)]
    with exclusive(file):
        inputs = {
            "bundle": bundle / MANIFEST,
            "autoencoder": WEIGHTS / "vae.safetensors",
            "captions": WEIGHTS / "captions.safetensors",
        }
        stamp = make_stamp(inputs, {"prompts": list(prompts), "seed": seed})
        if not all(is_current(path, stamp) for path in (file, *paths)):
            with Bundle.open(bundle, threads=threads, cpus=cpus) as opened:
                opened.verify()
            seeds = range(seed, seed + len(prompts))
            noise, embed = noise_for(shape, seeds), load_captions().batch
            latents = generate_latents(bundle, prompts, noise, embed, threads=threads, seeds=seeds, cpus=cpus)
            write_bytes(file, save({"latents": latents}, metadata={"prompts": "\n".join(prompts)}))
            for path, video in zip(paths, load_vae().decode(torch.from_numpy(latents)), strict=True):
                write_animation(path, video, demo_sampler().fps)
            for path in (*paths, file):
                write_stamp(path, stamp)
    return paths
