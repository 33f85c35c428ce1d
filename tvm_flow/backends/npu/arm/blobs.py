"""Blobs as constant data of a library, in C: what `runtime/npu_bound.h` reads as a segment's payload.

typedef struct {
  const unsigned char *vgf;      aligned to 64 bytes: its words are read where they are
  uint64_t vgf_bytes;
} npu_blob;
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROW_BYTES = 16
_STRUCT = """#include <stdint.h>
typedef struct {
  const unsigned char *vgf;
  uint64_t vgf_bytes;
} npu_blob;
"""


@dataclass(frozen=True)
class Blob:
    """A compiled graph, and types and shapes of its inputs and output as JSON, for Arm's own runner."""

    vgf: bytes
    signature: str


def blob_source(
    prefix: str, blobs: Mapping[str, Blob], tables: Mapping[int, Sequence[str]]
) -> tuple[str, dict[int, tuple[str, int]]]:
    """C of ``blobs`` by kernel and of a table of them for each segment of ``tables``; payloads by segment."""
    lines, payloads = [_STRUCT], {}
    for kernel, blob in blobs.items():
        data = ",".join(map(str, blob.vgf))
        lines.append(f"static const unsigned char {prefix}{kernel}_vgf[] __attribute__((aligned(64))) = {{{data}}};")
    for row, kernels in tables.items():
        symbol = f"{prefix}npu_{row}"
        rows = ", ".join(_row(prefix, kernel, blobs[kernel]) for kernel in kernels)
        lines.append(f"extern const npu_blob {symbol}[];\nconst npu_blob {symbol}[] = {{{rows}}};")
        payloads[row] = (symbol, ROW_BYTES * len(kernels))
    return "\n".join(lines) + "\n", payloads


def _row(prefix: str, kernel: str, blob: Blob) -> str:
    return f"{{{prefix}{kernel}_vgf, {len(blob.vgf)}}}"
