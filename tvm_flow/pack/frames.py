"""What a bundle that ends in frames holds beside the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm_flow.errors import BundleError


@dataclass(frozen=True)
class Decoder:
    """What turns latents into frames, ``chunk`` latent frames at a time; see `tvm_flow.pack.decoder`.

    ``frame_shape`` is [F, H, W, 3] of a chunk, ``golden_sha256`` that of the video, float32, that the golden latents
    give.
    """

    library: Path
    weights: bytes | bytearray | memoryview
    chunk: int
    frame_shape: tuple[int, int, int, int]
    golden_sha256: bytes
    weights_first: int = 0
    """Bytes of weights before those that the library names, as `tvm_flow.plan.store` writes them."""

    def check(self, latent_shape: tuple[int, ...]) -> None:
        """Raises BundleError when it does not decode latents of ``latent_shape``."""
        whole = len(latent_shape) == 4 and self.chunk >= 1 and latent_shape[1] % self.chunk == 0
        if not whole or min(self.frame_shape) < 1 or self.frame_shape[3] != 3 or len(self.golden_sha256) != 32:
            raise BundleError(
                f"contents.decoder: expected a chunk that divides T of a latent [C, T, h, w], frames [F, H, W, 3] and "
                f"a sha256, got {self.chunk} for {latent_shape} and {self.frame_shape}; export the decoder again"
            )
