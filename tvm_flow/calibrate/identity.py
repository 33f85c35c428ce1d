"""Which model ranges belong to."""

from __future__ import annotations

import hashlib
import json

import torch

from tvm_flow.model import AnyModel


def model_sha256(model: AnyModel) -> str:
    """Hex sha256 of the config and of every name, type, shape and byte of the state dict.

    Taken from the loaded model, not from its files, so that another sharding of the same weights is the same
    model.
    """
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(memoryview(tensor.detach().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
