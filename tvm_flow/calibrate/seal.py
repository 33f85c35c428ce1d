"""A digest over what a safetensors file of calibration holds, in its own header, so that it goes where the file goes.

Ranges are copied between machines and joined from parts, without the stamp that lies beside an output; a flipped bit in
them would quantize another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY = "sha256"


def sealed(values: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """The metadata of a file of ``tensors`` that says ``values`` of itself, under ``tvm_flow``."""
    return {"tvm_flow": json.dumps({**values, KEY: digest(values, tensors)}, sort_keys=True)}


def digest(values: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Hex sha256 of ``values`` as sorted JSON, then of every tensor's name, type, shape and bytes, sorted by name."""
    found = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name} {tensor.dtype} {tensor.shape}\0".encode())
        found.update(np.ascontiguousarray(tensor).data)
    return found.hexdigest()
