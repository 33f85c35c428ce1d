"""The demo's little language: a colour, a garment, a direction, in three templates."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.errors import PromptError

CLASSES = ("t-shirt", "trouser", "sandal", "sneaker", "bag", "ankle boot")
COLOURS = ("red", "green", "blue", "yellow")
DIRECTIONS = ("left", "right", "up", "down")
TEMPLATES = (
    "a {colour} {garment} moving {direction}",
    "{colour} {garment} going {direction}",
    "video of a {colour} {garment} moving {direction}",
)


@dataclass(frozen=True)
class Scene:
    """What a caption asks for, as indices into CLASSES, COLOURS and DIRECTIONS."""

    garment: int
    colour: int
    direction: int

    def caption(self, template: int = 0) -> str:
        """The caption of this scene in one of the TEMPLATES."""
        return TEMPLATES[template].format(
            colour=COLOURS[self.colour], garment=CLASSES[self.garment], direction=DIRECTIONS[self.direction]
        )


def all_scenes() -> list[Scene]:
    """The 96 scenes, directions innermost."""
    return [
        Scene(garment, colour, direction)
        for garment in range(len(CLASSES))
        for colour in range(len(COLOURS))
        for direction in range(len(DIRECTIONS))
    ]


def all_captions() -> dict[str, Scene]:
    """The 288 captions and their scenes; the order is that of the stored embeddings."""
    return {scene.caption(k): scene for k in range(len(TEMPLATES)) for scene in all_scenes()}


def parse_caption(caption: str) -> Scene:
    """The scene a caption asks for; raises PromptError for anything outside the 288."""
    scene = all_captions().get(caption)
    if scene is None:
        raise unknown_caption(caption)
    return scene


def unknown_caption(caption: str) -> PromptError:
    """The error for a caption without an embedding: how captions are formed, and three examples."""
    examples = [Scene(3, 0, 0).caption(0), Scene(4, 2, 1).caption(1), Scene(5, 3, 2).caption(2)]
    return PromptError(
        f"prompt {caption!r}: expected one of the demo's 288 captions, which follow "
        f"{', '.join(map(repr, TEMPLATES))} with colour {'|'.join(COLOURS)}, garment {'|'.join(CLASSES)} and "
        f"direction {'|'.join(DIRECTIONS)}; for example {', '.join(map(repr, examples))}"
    )
