"""The shipped model really does what its card says, on a few clips."""

from __future__ import annotations

from collections import Counter

import torch

from tvm_flow.demo import demo_sampler, load_captions, load_model, load_vae
from tvm_flow.demo.captions import parse_caption
from tvm_flow.quality.evaluation import FloatDemo, generate, spread_captions
from tvm_flow.quality.judge import load_judge


def test_captions_are_spread_over_the_set() -> None:
    captions = load_captions()
    assert len(set(spread_captions(captions, 288))) == 288
    for count in (48, 200):
        chosen = spread_captions(captions, count)
        assert len(set(chosen)) == count
        scenes = [parse_caption(caption) for caption in chosen]
        for values, kinds in (
            (Counter(s.garment for s in scenes), 6),
            (Counter(s.colour for s in scenes), 4),
            (Counter(s.direction for s in scenes), 4),
        ):
            assert len(values) == kinds
            assert max(values.values()) <= 1.5 * min(values.values())


def test_generated_clips_show_their_captions() -> None:
    demo = FloatDemo(load_model(), load_captions(), load_vae(), demo_sampler())
    prompts = spread_captions(demo.captions, 96)[::12]
    videos = generate(demo, prompts, seed=11, batch=8)
    assert videos.shape == (8, 8, 32, 32, 3)
    scores = load_judge().score(videos, prompts)
    assert scores["colour"] == 1.0
    assert scores["motion"] == 1.0
    assert scores["all"] >= 7 / 8


def test_batches_do_not_change_a_clip() -> None:
    prompts = ["a red bag moving up", "blue sandal going left"]
    sampler = demo_sampler()
    short = type(sampler).from_dict({**sampler.to_dict(), "steps": 3})
    demo = FloatDemo(load_model(), load_captions(), load_vae(), short)
    together = generate(demo, prompts, seed=1, batch=2)
    apart = generate(demo, prompts, seed=1, batch=1)
    torch.testing.assert_close(together, apart, atol=1e-3, rtol=0)
