"""The float model: STDiT3 and its checkpoints."""

from tvm_flow.model.checkpoint import load_checkpoint
from tvm_flow.model.config import STDIT3_XL_2, STDiT3Config
from tvm_flow.model.stdit3 import STDiT3, STDiT3Block

__all__ = ["STDIT3_XL_2", "STDiT3", "STDiT3Block", "STDiT3Config", "load_checkpoint"]
