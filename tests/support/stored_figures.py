"""What a bundle keeps of a compile's figures: not the distances to onnxruntime, which round as threads do."""

from __future__ import annotations

from dataclasses import replace

from tvm_flow.compile.command import Compiled

NOT_STORED = {"onnx_agreement_db", "onnx_distance"}


def as_read_back(compiled: Compiled) -> Compiled:
    """``compiled`` as a later command finds it in its bundle."""
    exactness = {key: value for key, value in compiled.exactness.items() if key not in NOT_STORED}
    decoder = compiled.decoder and {key: value for key, value in compiled.decoder.items() if key not in NOT_STORED}
    return replace(compiled, exactness=exactness, decoder=decoder)
