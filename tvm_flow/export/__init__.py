"""Quantized model to one QDQ ONNX graph per step and branch, all naming one external weight file."""

from tvm_flow.export.write import Exported, check_output, export, load_exported

__all__ = ["Exported", "check_output", "export", "load_exported"]
