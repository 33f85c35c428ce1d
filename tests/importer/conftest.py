"""What runs a lowered graph lives with the tests of lowering."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "lower"))
