"""The arithmetic of the int8 model, stated once; it imports nothing of the project but its errors."""

from tvm_flow.numerics.quantize import (
    accumulate,
    activation_scale,
    dequantize,
    quantize,
    requantize,
    weight_scale,
)

__all__ = ["accumulate", "activation_scale", "dequantize", "quantize", "requantize", "weight_scale"]
