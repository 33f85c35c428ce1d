"""Running a bundle from Python: a thin binding over the same C runtime that runs on a board.

with Bundle.open(Path("model.bundle")) as bundle:
    bundle.verify()
    latents = bundle.generate(noise, cond, uncond)
"""

from tvm_flow.run.bundle import Bundle
from tvm_flow.run.decoder import BundleDecoder
from tvm_flow.run.info import BundleInfo
from tvm_flow.run.trace import TracedCall
from tvm_flow.run.workers import Workers
from tvm_flow.toolchain.runtime_library import build_runtime

__all__ = ["Bundle", "BundleDecoder", "BundleInfo", "TracedCall", "Workers", "build_runtime"]
