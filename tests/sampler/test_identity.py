"""Two sampler configurations that differ are both shown."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.sampler import SamplerConfig, require_same_sampler, require_tables_of, step_updates


def test_equal_ones_pass() -> None:
    require_same_sampler("b", SamplerConfig().to_dict(), SamplerConfig().to_dict(), "")


def test_both_are_printed_with_what_differs() -> None:
    have, want = SamplerConfig(steps=20).to_dict(), SamplerConfig(name="ddim", steps=50).to_dict()
    with pytest.raises(ConfigError) as caught:
        require_same_sampler("a.bundle", have, want, "compile again")
    message = str(caught.value)
    assert message.startswith("a.bundle: ") and message.endswith("compile again")
    assert json.dumps(have, sort_keys=True) in message and json.dumps(want, sort_keys=True) in message
    assert "they differ in guided_channels, name, steps; " in message


@pytest.mark.parametrize("name", ["rflow", "ddim", "iddpm"])
def test_tables_may_hold_some_of_the_steps(name: str) -> None:
    config = SamplerConfig(name=name, steps=10)
    t, rows = config.timesteps(), step_updates(config)
    require_tables_of("e", config, t, rows)
    require_tables_of("e", config, t[2:5], rows[2:5] * (1 + 1e-15))
    for wrong_t, wrong_rows in ((t[1:], rows[:-1]), (t[:1] + 0.5, rows[:1]), (t, rows + 1e-9)):
        with pytest.raises(
            ConfigError, match=r"e: step 0: expected a timestep and an update of the sampler .* make it"
        ):
            require_tables_of("e", config, wrong_t, wrong_rows)
    worse = rows.copy()
    worse[4, 1] = np.nan
    with pytest.raises(ConfigError, match="step 4"):
        require_tables_of("e", config, t, worse)
