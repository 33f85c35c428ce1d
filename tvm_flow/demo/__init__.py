"""A small trained model of the project's own, with its captions and data."""

from tvm_flow.demo.assets import (
    LATENT_SHAPE,
    WEIGHTS,
    Captions,
    demo_noise,
    demo_sampler,
    load_captions,
    load_model,
    load_vae,
)

__all__ = [
    "LATENT_SHAPE",
    "WEIGHTS",
    "Captions",
    "demo_noise",
    "demo_sampler",
    "load_captions",
    "load_model",
    "load_vae",
]
