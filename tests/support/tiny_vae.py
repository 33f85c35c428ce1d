"""The smallest image VAE that a bundle of the tiny model can end in."""

from __future__ import annotations

from typing import Any

import torch

from tvm_flow.opensora import ImageVAE

# As few kernels as an AutoencoderKL can have; every piece of a decoder is compiled in tests/lower/test_images.py.
SIZES: dict[str, Any] = {
    **{"latent_channels": 4, "block_out_channels": (4,), "norm_num_groups": 2, "layers_per_block": 0},
    **{"mid_block_add_attention": False, "norm_num_groups": 2},
}


def make_vae() -> ImageVAE:
    """Decodes each of the three latent frames for itself."""
    from diffusers import AutoencoderKL

    torch.manual_seed(4)
    return ImageVAE(AutoencoderKL(**SIZES).eval().requires_grad_(False))
