"""The demo model that ships, calibrated on one prompt, with the first two of its twenty steps compiled and checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.kernels_once import compiled_once
from tvm_flow.compile.command import Compiled
from tvm_flow.compile.options import CompileOptions
from tvm_flow.export import Exported
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.pipeline.source import Source, load_source
from tvm_flow.pipeline.stages import calibrate_stage, compile_stage, quantize_stage
from tvm_flow.shipped import shipped_folder

STEPS = range(2)
PROMPT = "a red sneaker moving left"
RECIPE = shipped_folder("calibration") / "recipes" / "w8a8.yaml"


@dataclass(frozen=True)
class SmallDemo:
    """What every stage left in ``folder``."""

    folder: Path
    source: Source
    exported: Exported
    compiled: Compiled

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.yaml"

    @property
    def ranges(self) -> Path:
        return self.folder / "ranges.safetensors"

    @property
    def quantized(self) -> Path:
        return self.folder / "quantized.safetensors"


@cache
def build(folder: Path) -> SmallDemo:
    """All stages, once."""
    (folder / "prompts.yaml").write_text(f"prompts: [{PROMPT}]\n")
    source = load_source()
    calibrate_stage(source, folder / "prompts.yaml", folder / "ranges.safetensors")
    quantize_stage(source, folder / "ranges.safetensors", RECIPE, folder / "quantized.safetensors")
    exported = export_stage(source, folder / "quantized.safetensors", folder / "prompts.yaml", folder / "export", STEPS)
    with compiled_once():
        compiled = compile_stage(folder / "export", "host", folder / "bundle", CompileOptions(threads=1))
    return SmallDemo(folder, source, exported, compiled)
