"""Two sampler configurations that differ are both shown."""

from __future__ import annotations

import json

import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.sampler import SamplerConfig, require_same_sampler


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
