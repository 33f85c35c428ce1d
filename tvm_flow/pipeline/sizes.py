"""About how much the last stages write, told from what they start from; large things only."""

from __future__ import annotations

from torch import nn

from tvm_flow.calibrate.layers import block_names
from tvm_flow.pipeline.source import Source

GRAPH_BYTES = 14_000
"""Of one block in one step graph: 13.6 kB in a model of two blocks, 14.0 kB in the demo's of eight."""


def export_bytes(source: Source, quantized: int) -> int:
    """Weights as in the quantized model of ``quantized`` bytes, the decoder's, and a graph for each step and branch."""
    graphs = 2 * source.sampler.steps * len(block_names(source.model.config)) * GRAPH_BYTES
    return quantized + decoder_bytes(source) + graphs


def decoder_bytes(source: Source) -> int:
    """Parameters of the autoencoder in float32, those of its encoder too; 0 without one."""
    if source.decoder is None:
        return 0
    parts = [source.decoder] if isinstance(source.decoder, nn.Module) else vars(source.decoder).values()
    modules = [part for part in parts if isinstance(part, nn.Module)]
    return sum(4 * parameter.numel() for module in modules for parameter in module.parameters())
