"""Models and their exports, and the helper that runs onnxruntime, which lives with the tests of lowering."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "lower"))

from exported_model import chosen, exporter, quantizer, tiny, tiny_ranges

__all__ = ["chosen", "exporter", "quantizer", "tiny", "tiny_ranges"]
