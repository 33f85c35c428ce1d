"""Exported models, hand-made graphs and what runs them live in three folders."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "lower"))
sys.path.insert(0, str(Path(__file__).parent.parent / "export"))

from exported_model import chosen, exporter, quantizer, tiny, tiny_ranges

__all__ = ["chosen", "exporter", "quantizer", "tiny", "tiny_ranges"]
