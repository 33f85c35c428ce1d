"""A bundle of each schema that was ever shipped: this one and the one before run, older ones are refused by name.

tests/data/schema1 and schema2 were packed by the versions that wrote them, from the toy group of that day, for x86-64.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.causes import cause_in_c, cause_in_python

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack import read_golden, verify_bundle
from tvm_flow.pack.format import OLDEST, SCHEMA
from tvm_flow.run import Bundle, BundleDecoder

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def shipped(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    shutil.copytree(DATA / f"schema{request.param}", tmp_path / "b")
    return tmp_path / "b"


def test_there_is_a_bundle_of_every_schema_but_this() -> None:
    """Whoever raises it keeps one of the schema that was: `tvm_flow.pack.format` says what changed."""
    assert {path.name for path in DATA.glob("schema*")} == {f"schema{number}" for number in range(1, SCHEMA)}
    assert OLDEST == SCHEMA - 1


@pytest.mark.parametrize("shipped", [OLDEST], indirect=True)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="its libraries are for x86-64")
def test_the_schema_before_gives_the_same_latents_and_frames(shipped: Path) -> None:
    golden = read_golden(shipped)
    assert (cause_in_c(shipped), cause_in_c(shipped, "tvm_flow_decoder")) == ((Cause.NONE, ""), (Cause.NONE, ""))
    with Bundle.open(shipped, threads=1) as bundle:
        latents = bundle.generate(golden.noise, golden.cond, golden.uncond)
    assert np.array_equal(latents, golden.latents)
    with BundleDecoder.open(shipped, threads=1) as decoder:
        decoder.verify()


@pytest.mark.parametrize("shipped", [OLDEST], indirect=True)
@pytest.mark.parametrize("name", ["steps.bin", "weights.bin", "golden.bin", "decoder.bin", "lib/toy/group0.so"])
def test_damage_of_the_schema_before_is_found(shipped: Path, name: str) -> None:
    data = bytearray((shipped / name).read_bytes())
    data[len(data) // 2] ^= 8
    (shipped / name).write_bytes(data)
    function = "tvm_flow_decoder" if name == "decoder.bin" else "tvm_flow"
    assert (cause_in_c(shipped, function)[0], cause_in_python(shipped)[0]) == (Cause.CHANGED, Cause.CHANGED)


@pytest.mark.parametrize("shipped", range(1, OLDEST), indirect=True)
def test_older_ones_are_refused_by_name(shipped: Path) -> None:
    (by_c, said_c), (by_python, said) = cause_in_c(shipped), cause_in_python(shipped)
    assert (by_c, by_python) == (Cause.WRONG_VERSION, Cause.WRONG_VERSION)
    assert f"expected schema {OLDEST} or {SCHEMA}, got 1; compile the bundle again" in said_c
    assert f"manifest.json: expected schema {OLDEST} or {SCHEMA}, got 1; compile the bundle again" in said
    with pytest.raises(BundleError, match="expected schema"):
        verify_bundle(shipped)
