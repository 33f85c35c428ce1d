"""CLIPSIM and CLIP-temp: frames beside the prompt, and beside the frames before them, in CLIP's space.

    CLIPSIM   = mean over frames t of cos(I_t, P)      I_t the image embedding of frame t, P of the prompt
    CLIP-temp = mean over t of cos(I_t, I_t+1)

CLIPSIM: Wu et al., GODIVA (arXiv 2104.14806); CLIP-temp: EvalCrafter (arXiv 2310.11440); both with CLIP ViT-B/32
(Radford et al., arXiv 2103.00020), as ViDiT-Q (arXiv 2406.02540) reports them. Raw cosines, not hundredfold.

**CLIPSIM rises for broken videos**: ViDiT-Q's table has .180 for FP16 and .196 for a naive static W8A8 whose
VQA-technical fell from 50 to 26. A still picture has a CLIP-temp of 1. Neither decides anything alone.

The folder is transformers' own of ``openai/clip-vit-base-patch32``: config.json, weights, the tokenizer's files and
preprocessor_config.json. Pictures are resized and cut by PIL, as CLIP's authors do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvm_flow.errors import CheckpointError
from tvm_flow.opensora.extra import folder_config, require_complete, require_vocabulary
from tvm_flow.quality.metric_weights import files_of, require

WEIGHTS = "a CLIP (openai/clip-vit-base-patch32 for the field's figures)"
VOCABULARIES = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True, eq=False)
class ClipScores:
    """transformers' model, tokenizer and image processor."""

    model: Any
    tokenizer: Any
    pictures: Any
    longest: int
    files: tuple[Path, ...] = ()

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:  # noqa: ARG002
        """``clipsim`` and ``clip_temp`` [N] of videos [N, T, H, W, 3] in 0..1."""
        seen = [self._embedded(video, caption) for video, caption in zip(ours, captions, strict=True)]
        return {
            "clipsim": torch.stack([(images @ text).mean() for images, text in seen]),
            "clip_temp": torch.stack([(images[1:] * images[:-1]).sum(-1).mean() for images, _ in seen]),
        }

    def _embedded(self, video: Tensor, caption: str) -> tuple[Tensor, Tensor]:
        """Unit vectors: of frames [T, D], and of the caption [D]; words that CLIP has no room for are cut."""
        frames = (video.float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        pixels = self.pictures(images=list(frames), return_tensors="pt")["pixel_values"]
        words = self.tokenizer([caption], truncation=True, max_length=self.longest, return_tensors="pt")
        found = self.model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
        return found.image_embeds.float(), found.text_embeds[0].float()


def load_clip(folder: Path) -> ClipScores:
    """Model, tokenizer and image processor in ``folder``.

    Raises ConfigError without transformers, CheckpointError for a folder that is absent, of another model or lacks
    weights.
    """
    config = folder_config(folder, WEIGHTS)
    if config.get("model_type") != "clip":
        raise CheckpointError(
            f"{folder / 'config.json'}: expected model_type clip, got {config.get('model_type')!r:.60}; give the "
            "folder of a CLIP"
        )
    require_vocabulary(folder, VOCABULARIES)
    transformers = require("transformers")
    processor = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor  # before 5
    try:
        model, found = transformers.CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        pictures = processor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file fails in whatever transformers' next word asks for
        raise CheckpointError(
            f"{folder}: expected {WEIGHTS} with weights, tokenizer and preprocessor_config.json, got: {error}; fetch "
            "it again"
        ) from error
    require_complete(folder, found)
    longest = int(model.config.text_config.max_position_embeddings)
    return ClipScores(model.eval().requires_grad_(False), tokenizer, pictures, longest, files_of(folder))
