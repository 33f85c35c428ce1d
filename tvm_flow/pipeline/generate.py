"""Videos from a bundle: prompt to tokens, the C runtime's denoising loop, latents to frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from tvm_flow.calibrate.run import Embed
from tvm_flow.errors import ConfigError, InterruptedCommand, PromptError
from tvm_flow.export.graph import MASKED
from tvm_flow.pack import Prompt, read_golden
from tvm_flow.run import Bundle, Workers

Floats = npt.NDArray[np.float32]


def prompt_pair(tokens: Floats, length: int, null_caption: Floats) -> tuple[Prompt, Prompt]:
    """A caption and the null caption under the same mask: tokens [L, D], the first ``length`` of them real."""
    if not 1 <= length <= len(tokens):
        raise PromptError(f"prompt: expected 1 to {len(tokens)} tokens, got {length}; shorten the prompt")
    mask = np.where(np.arange(len(tokens)) < length, 0.0, MASKED).astype(np.float32)
    return Prompt(np.ascontiguousarray(tokens, np.float32), mask), Prompt(null_caption, mask)


def generate_latents(
    bundle: Path,
    prompts: Sequence[str],
    noise: Floats,
    embed: Embed,
    workers: int = 1,
    threads: int = 0,
    progress: bool = True,
    seeds: Sequence[int] | None = None,
    cpus: Sequence[int] = (),
) -> Floats:
    """Latents float32 [N, C, T, H, W] of ``prompts`` from ``noise`` of the same shape.

    What a sampler's steps draw for the k-th prompt depends on ``seeds[k]``, k by default.
    ``workers`` open the bundle with ``threads`` threads each (0: every core): several workers of one thread make more
    videos a second, one worker of several threads makes each of them sooner; ``cpus`` are one worker's (`Workers`).
    Ctrl-C, or an error of one worker, stops the others after the step they are at.
    Raises PromptError for a prompt that ``embed`` does not know, BundleError for a bad bundle, ConfigError for fewer
    than one worker, or several bound to the same CPUs.
    """
    if workers < 1:
        raise ConfigError(f"workers: expected at least 1, got {workers}; choose another number")
    if workers > 1 and cpus:
        raise ConfigError(
            f"cpus: expected none for {workers} workers, got {list(cpus)}; bind one worker's threads only"
        )
    null_caption = read_golden(bundle).uncond.tokens
    tokens, mask = embed(list(prompts))
    pairs = [prompt_pair(t.numpy(), int(m.sum()), null_caption) for t, m in zip(tokens, mask, strict=True)]
    latents = np.empty_like(noise)
    with tqdm(total=len(pairs), desc="generate", unit="video", disable=not progress) as bar:
        stop = threading.Event()
        drawn = range(len(pairs)) if seeds is None else seeds
        run = _worker(bundle, pairs, noise, latents, bar.update, threads, cpus, stop, drawn)
        shares = [range(start, len(pairs), workers) for start in range(min(workers, len(pairs)))]
        if len(shares) == 1:
            run(shares[0])
        else:
            _run_all(run, shares, stop)
    return latents


def _run_all(run: Callable[[range], None], shares: Sequence[range], stop: threading.Event) -> None:
    with ThreadPoolExecutor(max(len(shares), 1)) as pool:
        try:
            for future in as_completed([pool.submit(run, share) for share in shares]):
                future.result()
        finally:
            stop.set()  # the pool waits for its threads


def _worker(
    bundle: Path,
    pairs: Sequence[tuple[Prompt, Prompt]],
    noise: Floats,
    latents: Floats,
    advance: Callable[[], object],
    threads: int,
    cpus: Sequence[int],
    stop: threading.Event,
    seeds: Sequence[int],
) -> Callable[[range], None]:
    def go_on(_done: int, _steps: int) -> None:
        if stop.is_set():
            raise InterruptedCommand("generate: interrupted; run the same command again")

    def run(share: range) -> None:
        with Bundle.open(bundle, workers=Workers(threads, cpus)) as opened:
            for index in share:
                latents[index] = opened.generate(noise[index], *pairs[index], go_on, seed=seeds[index])
                advance()

    return run


def noise_for(shape: tuple[int, ...], seeds: Sequence[int]) -> Floats:
    """Unit Gaussian float32 [len(seeds), *shape]; each row depends on its own seed only."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).numpy()
