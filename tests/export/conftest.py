"""Exported models, made once for this folder."""

from support.exported_model import chosen, exporter, quantizer, tiny, tiny_ranges

__all__ = ["chosen", "exporter", "quantizer", "tiny", "tiny_ranges"]
