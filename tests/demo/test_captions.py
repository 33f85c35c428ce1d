"""The demo's language, and the prompt lists that are written in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.demo.captions import (
    CLASSES,
    COLOURS,
    DIRECTIONS,
    TEMPLATES,
    Scene,
    all_captions,
    all_scenes,
    parse_caption,
)
from tvm_flow.errors import PromptError

PROMPTS = Path(__file__).parents[2] / "calibration"


def test_288_captions_of_96_scenes() -> None:
    captions = all_captions()
    assert len(captions) == 288
    assert len(set(all_scenes())) == 96
    assert set(Counter(captions.values()).values()) == {len(TEMPLATES)}


def test_order_is_template_then_scene() -> None:
    captions = list(all_captions())
    assert captions[0] == "a red t-shirt moving left"
    assert captions[1] == "a red t-shirt moving right"
    assert captions[96] == "red t-shirt going left"
    assert captions[287] == "video of a yellow ankle boot moving down"


@pytest.mark.parametrize("template", range(len(TEMPLATES)))
def test_parse_is_the_inverse_of_caption(template: int) -> None:
    for scene in all_scenes():
        assert parse_caption(scene.caption(template)) == scene


def test_parse_reads_the_words() -> None:
    scene = parse_caption("video of a green ankle boot moving up")
    assert (CLASSES[scene.garment], COLOURS[scene.colour], DIRECTIONS[scene.direction]) == (
        "ankle boot",
        "green",
        "up",
    )


@pytest.mark.parametrize("prompt", ["", "a purple sneaker moving left", "A red sneaker moving left", "a dog"])
def test_unknown_prompt_says_how_captions_are_formed(prompt: str) -> None:
    with pytest.raises(PromptError) as caught:
        parse_caption(prompt)
    message = str(caught.value)
    assert repr(prompt) in message
    assert sum(repr(caption) in message for caption in all_captions()) == 3
    for word in (*CLASSES, *COLOURS, *DIRECTIONS):
        assert word in message


class TestPromptLists:
    """calibration/prompts.yaml and calibration/contact_sheet.yaml."""

    lists: ClassVar[dict[str, list[str]]] = {
        name: [prompt.text for prompt in load_prompts(PROMPTS / f"{file}.yaml")]
        for name, file in (("calibration", "prompts"), ("contact_sheet", "contact_sheet"))
    }

    def test_two_disjoint_lists(self) -> None:
        assert len(self.lists["calibration"]) == len(set(self.lists["calibration"])) == 16
        assert len(self.lists["contact_sheet"]) == len(set(self.lists["contact_sheet"])) == 8
        assert not set(self.lists["calibration"]) & set(self.lists["contact_sheet"])

    def test_no_scene_is_in_both(self) -> None:
        scenes = {name: {parse_caption(p) for p in prompts} for name, prompts in self.lists.items()}
        assert not scenes["calibration"] & scenes["contact_sheet"]

    @pytest.mark.parametrize(("name", "least"), [("calibration", 2), ("contact_sheet", 1)])
    def test_every_word_occurs(self, name: str, least: int) -> None:
        scenes: list[Scene] = [parse_caption(prompt) for prompt in self.lists[name]]
        for count, values in (
            (len(CLASSES), Counter(s.garment for s in scenes)),
            (len(COLOURS), Counter(s.colour for s in scenes)),
            (len(DIRECTIONS), Counter(s.direction for s in scenes)),
        ):
            assert len(values) == count
            assert min(values.values()) >= least
