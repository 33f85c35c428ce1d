"""Prompts, noise and workers, with a stand-in for the bundle."""

from __future__ import annotations

import _thread
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.errors import ConfigError, PromptError, RuntimeFailure
from tvm_flow.export.graph import MASKED
from tvm_flow.pack import Golden, Prompt
from tvm_flow.pipeline import generate as module
from tvm_flow.pipeline.generate import Generation, generate_latents, noise_for, prompt_pair
from tvm_flow.run import Workers

TOKENS, CHANNELS = 4, 3
NULL = np.full((TOKENS, CHANNELS), 9, np.float32)


class Fake:
    """A bundle: latents are the noise plus the sum of the prompt's real tokens; every video has a hundred steps."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.bound: list[tuple[int, ...]] = []
        self.steps = 0
        self.drawn: dict[float, int] = {}
        self.unconditional: list[Prompt] = []
        self.negative = False
        self.trouble: Callable[[], object] | None = None
        self.lock = threading.Lock()

    @contextmanager
    def open(self, _directory: Path, *, workers: Workers, unchecked: bool, trust: None) -> Iterator[Fake]:
        assert not unchecked and trust is None
        self.opened.append(workers.threads)
        self.bound.append(tuple(workers.cpus))
        yield self

    def generate(self, noise: Any, cond: Prompt, uncond: Prompt, progress: Any, seed: int) -> Any:
        with self.lock:
            self.drawn[float(noise[0])] = seed
            self.unconditional.append(uncond)
        if not self.negative:
            assert (uncond.tokens == NULL).all() and (uncond.mask == cond.mask).all()
        for step in range(100):
            with self.lock:
                self.steps += 1
                first = self.steps == 1
            if self.trouble is not None:
                if first:
                    self.trouble()
                time.sleep(0.01)
            progress(step + 1, 100)
        return noise + cond.tokens[cond.mask == 0].sum()


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake, nothing = Fake(), Prompt(NULL, NULL[:, 0])
    monkeypatch.setattr(module, "read_golden", lambda _: Golden(NULL, nothing, nothing, NULL))
    monkeypatch.setattr(module, "read_manifest", lambda _: SimpleNamespace(steps=100))
    monkeypatch.setattr(module, "Bundle", fake)
    return fake


def embed(captions: list[str]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(text) for text in captions])
    return torch.ones(len(captions), TOKENS, CHANNELS) * lengths[:, None, None], torch.arange(TOKENS) < lengths[:, None]


def test_cpus_reach_the_one_worker_and_several_are_refused(bundle: Fake) -> None:
    noise = np.zeros((1, 2), np.float32)
    generate_latents(Path("b"), ["a"], noise, embed, Generation(threads=2, cpus=(1, 0)), progress=False)
    assert (bundle.opened, bundle.bound) == ([2], [(1, 0)])
    with pytest.raises(
        ConfigError, match=r"cpus: expected none for 2 workers, got \[1, 0\]; bind one worker's threads only"
    ):
        generate_latents(Path("b"), ["a"], noise, embed, Generation(workers=2, cpus=(1, 0)), progress=False)
    assert len(bundle.opened) == 1


def run(count: int, workers: int, threads: int = 1) -> Any:
    prompts = ["abc"[: 1 + i % 3] for i in range(count)]
    noise = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2)
    latents = generate_latents(Path("b"), prompts, noise, embed, Generation(workers, threads), progress=False)
    lengths = np.array([len(prompt) for prompt in prompts])
    np.testing.assert_array_equal(latents, noise + (CHANNELS * lengths**2)[:, None])
    return latents


class TestWorkers:
    @pytest.mark.parametrize("workers", [1, 2, 3, 7, 20])
    def test_every_video_is_made_once_in_its_place(self, bundle: Fake, workers: int) -> None:
        run(7, workers, threads=3)
        assert bundle.opened == [3] * min(workers, 7), "no bundle is opened for nothing"
        assert bundle.steps == 700
        assert bundle.drawn == {2.0 * k: k for k in range(7)}

    def test_every_video_draws_for_its_own_seed(self, bundle: Fake) -> None:
        noise, seeds = np.arange(6, dtype=np.float32).reshape(3, 2), [9, 4, 2**40]
        generate_latents(Path("b"), ["a", "b", "c"], noise, embed, Generation(2, seeds=seeds), progress=False)
        assert bundle.drawn == dict(zip([0.0, 2.0, 4.0], seeds, strict=True))

    @pytest.mark.parametrize("workers", [0, -1])
    @pytest.mark.usefixtures("bundle")
    def test_fewer_than_one_is_refused(self, workers: int) -> None:
        with pytest.raises(ConfigError, match=f"workers: expected at least 1, got {workers}"):
            run(3, workers)

    def test_ctrl_c_stops_every_worker(self, bundle: Fake) -> None:
        """The pool waits for its threads: without a word to them that would be for all of the videos."""
        bundle.trouble = _thread.interrupt_main
        with pytest.raises(KeyboardInterrupt):
            run(40, 2)
        assert bundle.steps < 4000 / 2

    def test_an_error_of_one_worker_stops_the_others(self, bundle: Fake) -> None:
        def fail() -> None:
            raise RuntimeFailure("kernel: no")

        bundle.trouble = fail
        with pytest.raises(RuntimeFailure, match="kernel: no"):
            run(40, 3)
        assert bundle.steps < 4000 / 2


class TestProgress:
    def test_every_step_of_every_video_is_shown_with_the_time_left(
        self, bundle: Fake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle.trouble = lambda: None  # steps that take a while
        generate_latents(Path("b"), ["a", "b"], np.zeros((2, 2), np.float32), embed)
        shown = capsys.readouterr().err.split("\r")
        assert "generate: 100%" in shown[-1] and "200/200" in shown[-1]
        assert any(re.search(r" \d+/200 \[\d\d:\d\d<\d\d:\d\d", line) for line in shown[1:-1])

    def test_nothing_is_shown_when_nobody_looks(self, bundle: Fake, capsys: pytest.CaptureFixture[str]) -> None:
        generate_latents(Path("b"), ["a"], np.zeros((1, 2), np.float32), embed, progress=False)
        assert (bundle.steps, capsys.readouterr().err) == (100, "")


class TestPrompts:
    def test_a_negative_prompt_takes_the_place_of_the_null_caption_under_its_own_mask(self, bundle: Fake) -> None:
        bundle.negative, noise = True, np.zeros((2, 2), np.float32)
        generate_latents(Path("b"), ["a", "bcd"], noise, embed, Generation(negative="xy"), progress=False)
        assert len(bundle.unconditional) == 2
        for prompt in bundle.unconditional:
            assert (prompt.tokens == 2).all()
            assert prompt.mask.tolist() == [0, 0, np.float32(MASKED), np.float32(MASKED)]

    def test_a_pair_shares_the_mask(self) -> None:
        tokens = np.arange(12, dtype=np.float32).reshape(TOKENS, CHANNELS)
        cond, uncond = prompt_pair(tokens, 3, NULL)
        np.testing.assert_array_equal(cond.tokens, tokens)
        np.testing.assert_array_equal(uncond.tokens, NULL)
        for prompt in (cond, uncond):
            assert prompt.mask.tolist() == [0, 0, 0, np.float32(MASKED)]
            assert prompt.mask.dtype == np.float32

    @pytest.mark.parametrize("length", [0, -1, TOKENS + 1])
    def test_a_prompt_has_between_one_and_all_tokens(self, length: int) -> None:
        with pytest.raises(PromptError, match=f"expected 1 to {TOKENS} tokens, got {length}"):
            prompt_pair(NULL, length, NULL)

    def test_all_tokens_may_be_real(self) -> None:
        assert (prompt_pair(NULL, TOKENS, NULL)[0].mask == 0).all()


class TestNoise:
    def test_a_row_depends_on_its_own_seed_only(self) -> None:
        many = noise_for((2, 3), [5, 6, 7])
        assert many.shape == (3, 2, 3)
        assert many.dtype == np.float32
        assert many[1].tobytes() == noise_for((2, 3), [6])[0].tobytes()
        assert many[0].tobytes() != many[1].tobytes()

    def test_is_what_calibration_starts_from(self) -> None:
        drawn = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(11))
        assert noise_for((4, 3), [11]).tobytes() == drawn.numpy().tobytes()

    def test_is_unit_gaussian(self) -> None:
        values = noise_for((100, 100), [0])
        assert abs(values.mean()) < 0.05
        assert abs(values.std() - 1) < 0.05
