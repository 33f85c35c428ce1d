"""The float models, STDiT and STDiT3, and their checkpoints."""

from tvm_flow.model.checkpoint import AnyModel, load_checkpoint, load_stdit3
from tvm_flow.model.config import STDIT3_XL_2, STDIT_XL_2, STDIT_XL_2_256, STDiT3Config, STDiTConfig
from tvm_flow.model.recognise import AnyConfig, config_from_dict
from tvm_flow.model.stdit import STDiT, STDiTBlock
from tvm_flow.model.stdit3 import STDiT3, STDiT3Block
from tvm_flow.model.tokens import Video

__all__ = [
    "STDIT3_XL_2",
    "STDIT_XL_2",
    "STDIT_XL_2_256",
    "AnyConfig",
    "AnyModel",
    "STDiT",
    "STDiT3",
    "STDiT3Block",
    "STDiT3Config",
    "STDiTBlock",
    "STDiTConfig",
    "Video",
    "config_from_dict",
    "load_checkpoint",
    "load_stdit3",
]
