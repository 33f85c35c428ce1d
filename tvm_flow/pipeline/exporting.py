"""The export stage, by itself: its stamp depends on what this module can reach, and the compiler is not among that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from tvm_flow.artifact import exclusive, is_current, make_stamp, require_unchanged, write_stamp
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.export import Exported, check_output, export, load_exported
from tvm_flow.export.decoder_file import DECODER_FILES, decoder_sha256, export_decoder
from tvm_flow.export.write import FILES
from tvm_flow.folders import keep_others, new_directory
from tvm_flow.pipeline.sizes import export_bytes
from tvm_flow.pipeline.source import Source
from tvm_flow.quantize.file import load_quantized, quantized_sampler
from tvm_flow.room import bytes_in, expect_room
from tvm_flow.sampler import SamplerConfig, require_same_sampler


def export_stage(source: Source, quantized: Path, prompts: Path, output: Path, steps: range | None = None) -> Exported:
    """Step graphs into the folder ``output``; the first prompt becomes the golden input's caption.

    Raises ConfigError showing both when ``quantized`` is of another sampler.
    """
    check_output(output)
    expect_room(output)
    require_unchanged(quantized, "quantize")
    require_sampler_of(quantized, quantized_sampler, source, "quantize")
    tokens, mask = source.embed([load_prompts(prompts)[0].text])
    caption = (tokens[0].numpy(), int(mask[0].sum()))
    options = {
        "steps": None if steps is None else [steps.start, steps.stop],
        "caption": hashlib.sha256(caption[0].tobytes()).hexdigest(),
        "length": caption[1],
        "decoder": decoder_sha256(source.decoder),
    }
    with exclusive(output):
        stamp = make_stamp({"quantized": quantized}, options, __name__)
        if is_current(output, stamp):
            return load_exported(output)
        expect_room(output, export_bytes(source, bytes_in(quantized)))
        with new_directory(output) as folder:
            export(load_quantized(quantized), folder, caption, steps)
            if source.decoder is not None:
                export_decoder(source.decoder, source.latent, folder)
            keep_others(output, folder, _is_own)
        write_stamp(output, stamp)
        return load_exported(output)


def _is_own(name: str) -> bool:
    """Of an older export, which the new one may lack."""
    return name in (*FILES, *DECODER_FILES) or (name.startswith("step_") and name.endswith(".onnx"))


def require_sampler_of(file: Path, sampler_of: Callable[[Path], SamplerConfig], source: Source, stage: str) -> None:
    """Raise ConfigError showing both when ``file`` is of another sampler than ``source``."""
    if file.exists():  # one that is absent is named by the stage itself
        advice = f"{stage} for this sampler into another file and use that, or go on with the sampler of {file.name}"
        require_same_sampler(str(file), sampler_of(file).to_dict(), source.sampler.to_dict(), advice)
