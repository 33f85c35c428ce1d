"""What a step graph takes from the size of the latent and from the timesteps alone, evaluated once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvm_flow.model import AnyModel, STDiT
from tvm_flow.sampler import SamplerConfig

Floats = NDArray[np.float32]


def position_tables(model: AnyModel, sampler: SamplerConfig, latent: tuple[int, int, int, int]) -> dict[str, Floats]:
    """The tables that ``QuantizedModel.tables`` lists, for a ``latent`` [C, T, H, W]; what is left over is padded."""
    sizes = zip(latent[1:], model.config.patch, strict=True)
    frames, h, w = (-(-size // patch) for size, patch in sizes)
    if isinstance(model, STDiT):
        tables = {"position_embedding": model.position_embedding(h, w), "time_embedding": model.time_embedding(frames)}
    else:
        cos, sin = model.rope.tables(frames)
        position = model.position_embedding(h, w, float(sampler.height), float(sampler.width))
        tables = {"position_embedding": position, "rope_cos": cos, "rope_sin": sin}
    return {name: _float(table) for name, table in tables.items()}


@torch.no_grad()
def step_records(model: AnyModel, sampler: SamplerConfig) -> Floats:
    """float32 [steps, 7 * hidden]: t0 and t_emb of every step, each evaluated alone as a step graph would."""
    records = []
    for t in sampler.timesteps():
        time = torch.tensor([t], dtype=torch.float32)
        t_emb = model.t_emb(time) if isinstance(model, STDiT) else model.t_emb(time, sampler.fps)
        records.append(_float(torch.cat([model.t0(t_emb), t_emb], dim=-1)[0]))
    return np.stack(records)


def _float(tensor: Tensor) -> Floats:
    values: Floats = tensor.detach().float().contiguous().numpy().copy()
    return values
