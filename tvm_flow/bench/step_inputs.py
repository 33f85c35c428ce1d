"""Where `tvm_flow.bench.step` puts what contenders read, and they what they computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepFiles:
    """See the module."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The float model."""
        return self.folder / "checkpoint"

    @property
    def bundle(self) -> Path:
        """Ours."""
        return self.folder / "bundle"

    def graph(self, kind: str) -> Path:
        """The conditional graph of the export ``kind``, int8 or fp32."""
        return self.folder / f"export_{kind}" / "step_000_cond.onnx"

    @property
    def inputs(self) -> Path:
        """z, y, mask (additive), length, t, fps, and how many calls of the bundle's step are its prologue."""
        return self.folder / "inputs.npz"

    def result(self, name: str) -> Path:
        """The velocity that contender ``name`` computed."""
        return self.folder / f"{name}.npy"
