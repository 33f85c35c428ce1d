"""Limits of a bundle, as the runtime's C states them in ``runtime/src/limits.h``: there is no second statement."""

from __future__ import annotations

import re
from pathlib import Path

HEADER = Path(__file__).parent / "runtime" / "src" / "limits.h"

_stated = {name: int(value) for name, value in re.findall(r"^#define FLOW_(MAX_\w+) (\d+)\b", HEADER.read_text(), re.M)}

MAX_STEPS = _stated["MAX_STEPS"]
"""Denoising steps."""
MAX_ELEMENTS = _stated["MAX_ELEMENTS"]
"""Numbers in a latent or in a prompt's tokens, and along any axis of either."""
MAX_CFG_SCALE = _stated["MAX_CFG_SCALE"]
"""Guidance."""
MAX_INDEX_BYTES = _stated["MAX_INDEX_BYTES"]
"""Of steps.bin."""
MAX_LIBRARY_BYTES = _stated["MAX_LIBRARY_BYTES"]
"""Of a library of a bundle."""
