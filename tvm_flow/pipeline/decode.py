"""Latents to frames: by the bundle's own decoder, by a VAE in PyTorch, or by the demo's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.demo import LATENT_SHAPE, load_vae
from tvm_flow.demo.vae import VAE
from tvm_flow.errors import NotFiniteError
from tvm_flow.opensora import Autoencoder, load_autoencoder
from tvm_flow.pack import read_decoder, read_golden, read_manifest
from tvm_flow.pack.trust import Trust
from tvm_flow.run import Bundle, BundleDecoder, TracedCall, Workers


@dataclass(frozen=True)
class Frames:
    """What turns the latents of ``bundle`` into frames; ``threads`` and ``cpus`` are `Workers`'.

    ``unchecked`` and ``trust``: of `Bundle.open`.
    """

    bundle: Path
    autoencoder: Path | None = None
    threads: int = 0
    cpus: Sequence[int] = ()
    unchecked: bool = False
    trust: Trust | None = None

    @property
    def workers(self) -> Workers:
        """The threads that run kernels."""
        return Workers(self.threads, self.cpus)

    @property
    def compiled(self) -> bool:
        """The bundle's own decoder, where no other is asked for."""
        return self.autoencoder is None and read_decoder(self.bundle) is not None

    @property
    def possible(self) -> bool:
        """Whether there is anything to decode with; the demo's bundles can do without."""
        return self.autoencoder is not None or self.compiled or read_golden(self.bundle).noise.shape == LATENT_SHAPE

    @cached_property
    def module(self) -> Autoencoder | VAE:
        """What decodes in PyTorch; raises what `load_autoencoder` raises."""
        return load_vae() if self.autoencoder is None else load_autoencoder(self.autoencoder)

    def videos(self, latents: Tensor, calls: int | None = None, progress: bool = True) -> Iterator[Tensor]:
        """Videos [F, H, W, 3], uint8 or float in 0..1, of ``latents`` [N, C, T, h, w], each made when it is asked for.

        ``calls`` is what `check_here` counted, for the time that is left. Raises what `BundleDecoder.open` or
        `load_autoencoder` raises.
        """
        yield from self._by_bundle(latents, calls, progress) if self.compiled else self._by_torch(latents, progress)

    def _by_torch(self, latents: Tensor, progress: bool) -> Iterator[Tensor]:
        frames = int(read_manifest(self.bundle).sampler["frames"])
        module = self.module
        with tqdm(total=frames * len(latents), desc="decode", unit="frame", disable=not progress) as bar:
            for latent in latents:
                one = latent[None]
                if isinstance(module, VAE):
                    video = module.decode(one)
                    bar.update(frames)
                else:
                    video = module.decode(one, frames, bar.update)
                if not bool(torch.isfinite(video).all()):
                    raise NotFiniteError(
                        f"{self.autoencoder or 'the demo decoder'}: expected finite frames, got NaN or an infinity; "
                        "look at the latents that were written, and at the weights"
                    )
                yield video[0]

    def _by_bundle(self, latents: Tensor, calls: int | None, progress: bool) -> Iterator[Tensor]:
        total = None if calls is None else calls * len(latents)
        with (
            BundleDecoder.open(
                self.bundle, workers=self.workers, unchecked=self.unchecked, trust=self.trust
            ) as decoder,
            tqdm(total=total, desc="decode", unit="kernel", disable=not progress) as bar,
            decoder.trace(lambda _: bar.update()),
        ):
            for latent in latents:
                yield torch.from_numpy(decoder.decode_rgb8(latent.numpy()))


def check_here(frames: Frames, progress: bool = True) -> int | None:
    """The bundle must repeat its golden latents, and its decoder its golden frames: it may come from elsewhere.

    One that is unchecked has neither, and is only opened.

    What decodes in PyTorch is loaded, so that it is found out now when it cannot be. Returns how many kernel calls the
    bundle's decoder makes for a video; None where it has none or nothing was run. Raises BundleError when a bit
    differs, and what `Frames.module` raises.
    """
    if frames.possible and not frames.compiled:
        _ = frames.module
    golden = read_golden(frames.bundle)
    if not golden.computed:
        Bundle.open(frames.bundle, workers=frames.workers, unchecked=frames.unchecked, trust=frames.trust).close()
        return None
    steps = golden.steps or read_manifest(frames.bundle).steps
    with tqdm(total=steps, desc="check bundle", unit="step", disable=not progress) as bar:
        with (
            Bundle.open(frames.bundle, workers=frames.workers, trust=frames.trust) as opened,
            opened.trace(lambda call: bar.update(max(0, call.step - bar.n))),
        ):
            opened.verify()
        bar.update(steps - bar.n)
    if not frames.compiled:
        return None
    calls = 0

    def count(_: TracedCall) -> None:
        nonlocal calls
        calls += 1
        bar.update()

    with (
        BundleDecoder.open(frames.bundle, workers=frames.workers, trust=frames.trust) as decoder,
        tqdm(desc="check decoder", unit="kernel", disable=not progress) as bar,
        decoder.trace(count),
    ):
        decoder.verify()
    return calls
