"""Quantized model to one QDQ ONNX graph per step and branch, all naming one external weight file."""

from tvm_flow.export.write import Exported, export, load_exported

__all__ = ["Exported", "export", "load_exported"]
