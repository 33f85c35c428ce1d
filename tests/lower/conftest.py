"""The graphs to lower are made by helpers that live with the importer's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "importer"))
