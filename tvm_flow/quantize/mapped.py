"""The tensors of a safetensors file as views of the file: pages are read when somebody looks at them.

safetensors' own numpy reader copies every tensor it gives. A quantized XL/2 model is over a gigabyte, of which a stage
needs one layer at a time.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

# A safetensors header's word for a dtype -> numpy's.
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def map_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors of ``path``, whose header safetensors checks first; what is written to them is not stored.

    Raises OSError or SafetensorError when the file is absent or damaged, or has a type that numpy has no word for.
    """
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise SafetensorError(f"{name}: expected a dtype of {sorted(_DTYPES)}, got {entry['dtype']}")
        start, end = entry["data_offsets"]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        tensors[name] = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, 8 + length + start).reshape(
            entry["shape"]
        )
    return metadata, tensors
