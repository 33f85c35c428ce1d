"""Per-step tables belong to one sampler configuration: asking them for another is an error that shows both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import SamplerMismatchError
from tvm_flow.sampler.config import SamplerConfig
from tvm_flow.sampler.update import SIGMA, step_updates


def require_same_sampler(where: str, have: Mapping[str, Any], want: Mapping[str, Any], advice: str) -> None:
    """Raises SamplerMismatchError with both configurations and what differs when ``want`` is not ``have``.

    Both are as `SamplerConfig.to_dict` gives them; ``where`` names the file whose tables were made for ``have``.
    """
    absent = object()
    differ = [key for key in sorted({*have, *want}) if have.get(key, absent) != want.get(key, absent)]
    if differ:
        raise SamplerMismatchError(
            f"{where}: its per-step tables were made for the sampler {json.dumps(dict(have), sort_keys=True)}, got a "
            f"request for {json.dumps(dict(want), sort_keys=True)}; they differ in {', '.join(differ)}; {advice}"
        )


def require_tables_of(
    where: str,
    config: SamplerConfig,
    timesteps: NDArray[np.float64],
    updates: NDArray[np.float64],
    corrected: bool = False,
) -> None:
    """Raises SamplerMismatchError naming the first step of the tables that is none of ``config``'s.

    ``timesteps`` float64 [steps] and ``updates`` float64 [steps, 5] may hold fewer steps. Logarithms differ in their
    last bits from machine to machine, hence 1e-12. In ``corrected`` ones what is of z and of the prediction was fitted
    (`fit.sampler` of a recipe), and has to be finite.
    """
    first = SIGMA if corrected else 0
    rows = dict(zip(config.timesteps().tolist(), step_updates(config), strict=True))
    for step, (t, row) in enumerate(zip(timesteps.tolist(), updates, strict=True)):
        same = t in rows and np.allclose(row[first:], rows[t][first:], rtol=1e-12, atol=1e-12)
        if not same or not np.isfinite(row).all():
            raise SamplerMismatchError(
                f"{where}: step {step}: expected a timestep and an update of the sampler "
                f"{json.dumps(config.to_dict(), sort_keys=True)} that it names, got t {t:g} and "
                f"{row.tolist()}; make it again"
            )
