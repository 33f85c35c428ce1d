"""The toy model lives beside the C that it is compiled from."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))

from toy_fixtures import bundle, bundle_dir, contents, libraries

__all__ = ["bundle", "bundle_dir", "contents", "libraries"]
