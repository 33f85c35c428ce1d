"""Videos from a bundle: prompt to tokens, the C runtime's denoising loop, latents to frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from tvm_flow.calibrate.run import Embed
from tvm_flow.errors import ConfigError, InterruptedCommand, PromptError
from tvm_flow.export.graph import MASKED
from tvm_flow.pack import Prompt, read_golden, read_manifest
from tvm_flow.pack.trust import Trust
from tvm_flow.run import Bundle, Workers

Floats = npt.NDArray[np.float32]


def prompt_pair(tokens: Floats, length: int, null_caption: Floats) -> tuple[Prompt, Prompt]:
    """A caption and the null caption under the same mask: tokens [L, D], the first ``length`` of them real."""
    if not 1 <= length <= len(tokens):
        raise PromptError(f"prompt: expected 1 to {len(tokens)} tokens, got {length}; shorten the prompt")
    mask = np.where(np.arange(len(tokens)) < length, 0.0, MASKED).astype(np.float32)
    return Prompt(np.ascontiguousarray(tokens, np.float32), mask), Prompt(null_caption, mask)


@dataclass(frozen=True)
class Generation:
    """How latents are made, beside their prompts and noise.

    ========  ==============================================================================================
    workers   open the bundle this many times: several workers of one thread make more videos a second, one
              worker of several threads makes each of them sooner
    threads   of each worker; 0 for every core
    cpus      one worker's, see `Workers`
    seeds     what a sampler's steps draw for the k-th prompt depends on seeds[k]; k when None
    unchecked of `Bundle.open`, as is ``trust``
    negative  prompt of the unconditional branch, under its own mask; None for the null caption
    ========  ==============================================================================================
    """

    workers: int = 1
    threads: int = 0
    cpus: Sequence[int] = ()
    seeds: Sequence[int] | None = None
    negative: str | None = None
    unchecked: bool = False
    trust: Trust | None = None


ONE_WORKER = Generation()


def generate_latents(
    bundle: Path,
    prompts: Sequence[str],
    noise: Floats,
    embed: Embed,
    how: Generation = ONE_WORKER,
    progress: bool = True,
) -> Floats:
    """Latents float32 [N, C, T, H, W] of ``prompts`` from ``noise`` of the same shape; ``progress`` shows each step.

    Ctrl-C, or an error of one worker, stops the others after the step they are at.
    Raises PromptError for a prompt that ``embed`` does not know, BundleError for a bad bundle, ConfigError for fewer
    than one worker, or several bound to the same CPUs.
    """
    if how.workers < 1:
        raise ConfigError(f"workers: expected at least 1, got {how.workers}; choose another number")
    if how.workers > 1 and how.cpus:
        raise ConfigError(
            f"cpus: expected none for {how.workers} workers, got {list(how.cpus)}; bind one worker's threads only"
        )
    pairs = prompt_pairs(bundle, prompts, embed, how.negative)
    latents = np.empty_like(noise)
    total = len(pairs) * read_manifest(bundle).steps
    with tqdm(total=total, desc="generate", unit="step", disable=not progress) as bar:
        job = _Job(bundle, how, pairs, noise, latents, bar.update)
        shares = [range(start, len(pairs), how.workers) for start in range(min(how.workers, len(pairs)))]
        if len(shares) == 1:
            job.run(shares[0])
        else:
            job.run_all(shares)
    return latents


def prompt_pairs(
    bundle: Path, prompts: Sequence[str], embed: Embed, negative: str | None = None
) -> list[tuple[Prompt, Prompt]]:
    """Both branches' inputs for each of ``prompts``, as `Bundle.generate` takes them.

    Raises PromptError for a prompt that ``embed`` does not know.
    """
    null_caption = read_golden(bundle).uncond.tokens
    tokens, mask = embed(list(prompts))
    pairs = [prompt_pair(t.numpy(), int(m.sum()), null_caption) for t, m in zip(tokens, mask, strict=True)]
    if negative is None:
        return pairs
    (tokens,), (mask,) = embed([negative])
    instead, _ = prompt_pair(tokens.numpy(), int(mask.sum()), null_caption)
    return [(cond, instead) for cond, _ in pairs]


@dataclass(frozen=True)
class _Job:
    """What workers share; ``advance`` is called after each step, ``stop`` ends them all after the step they are at."""

    bundle: Path
    how: Generation
    pairs: Sequence[tuple[Prompt, Prompt]]
    noise: Floats
    latents: Floats
    advance: Callable[[], object]
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, share: range) -> None:
        seeds = range(len(self.pairs)) if self.how.seeds is None else self.how.seeds
        workers = Workers(self.how.threads, self.how.cpus)
        with Bundle.open(self.bundle, workers=workers, unchecked=self.how.unchecked, trust=self.how.trust) as opened:
            for k in share:
                self.latents[k] = opened.generate(self.noise[k], *self.pairs[k], self._step_done, seed=seeds[k])

    def run_all(self, shares: Sequence[range]) -> None:
        with ThreadPoolExecutor(max(len(shares), 1)) as pool:
            try:
                for future in as_completed([pool.submit(self.run, share) for share in shares]):
                    future.result()
            finally:
                self.stop.set()  # the pool waits for its threads

    def _step_done(self, _done: int, _steps: int) -> None:
        self.advance()
        if self.stop.is_set():
            raise InterruptedCommand("generate: interrupted; run the same command again")


def noise_for(shape: tuple[int, ...], seeds: Sequence[int]) -> Floats:
    """Unit Gaussian float32 [len(seeds), *shape]; each row depends on its own seed only."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).numpy()
