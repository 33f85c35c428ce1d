"""From a float model and its activation ranges to int8 weights, scales per step and branch, and folded vectors."""

from tvm_flow.quantize.build import quantize, quantize_model
from tvm_flow.quantize.fake import FakeQuant, fake_outputs, fake_velocity
from tvm_flow.quantize.file import load_quantized, save_quantized
from tvm_flow.quantize.quantized import Fold, QuantizedLayer, QuantizedModel
from tvm_flow.quantize.recipe import KeepFloat, Recipe, Smoothing, load_recipe
from tvm_flow.quantize.summary import summary

__all__ = [
    "FakeQuant",
    "Fold",
    "KeepFloat",
    "QuantizedLayer",
    "QuantizedModel",
    "Recipe",
    "Smoothing",
    "fake_outputs",
    "fake_velocity",
    "load_quantized",
    "load_recipe",
    "quantize",
    "quantize_model",
    "save_quantized",
    "summary",
]
