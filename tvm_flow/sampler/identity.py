"""Per-step tables belong to one sampler configuration: asking them for another is an error that shows both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tvm_flow.errors import ConfigError


def require_same_sampler(where: str, have: Mapping[str, Any], want: Mapping[str, Any], advice: str) -> None:
    """Raises ConfigError with both configurations and what differs when ``want`` is not ``have``.

    Both are as `SamplerConfig.to_dict` gives them; ``where`` names the file whose tables were made for ``have``.
    """
    absent = object()
    differ = [key for key in sorted({*have, *want}) if have.get(key, absent) != want.get(key, absent)]
    if differ:
        raise ConfigError(
            f"{where}: its per-step tables were made for the sampler {json.dumps(dict(have), sort_keys=True)}, got a "
            f"request for {json.dumps(dict(want), sort_keys=True)}; they differ in {', '.join(differ)}; {advice}"
        )
