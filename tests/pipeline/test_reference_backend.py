"""A second backend is one folder and a target: the demo bundle with every other kernel on it is exact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reference_backend import NAME, ReferenceBackend, registered
from support.small_demo import SmallDemo
from support.traced import devices_of_the_golden_run

from tvm_flow.compile.command import Compiled
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BundleError, ConfigError, RuntimeFailure
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_golden
from tvm_flow.pipeline.stages import compile_stage
from tvm_flow.run import Bundle, BundleDecoder
from tvm_flow.target.inventory import detect_target

pytestmark = pytest.mark.usefixtures("kernels_once")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceBackend]:
    with registered(ReferenceBackend(tmp_path_factory.mktemp("device"))) as known:
        yield known


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine's own file, and the backends in order of preference."""
    path = tmp_path_factory.mktemp("target") / "both.yaml"
    path.write_text(f"{detect_target()}backends: [{NAME}, cpu]\n")
    return path


@pytest.fixture(scope="module")
def compiled(
    demo: SmallDemo, backend: ReferenceBackend, target: Path, tmp_path_factory: pytest.TempPathFactory
) -> Compiled:
    assert backend.name == NAME
    output = tmp_path_factory.mktemp("spread") / "bundle"
    return compile_stage(demo.exported.folder, str(target), output, CompileOptions(threads=2, progress=False))


def test_every_call_was_compared(demo: SmallDemo, compiled: Compiled) -> None:
    here, there = demo.compiled.exactness, compiled.exactness
    assert there["calls"] == there["expected_calls"] and here["calls"] == here["expected_calls"]
    assert there["quantized"] == here["quantized"]
    # The CPU alone computes an attention and what moves around it as one kernel, which hands over nothing in between.
    assert there["calls"] > here["calls"] and there["floats"] > here["floats"]


def test_every_other_kernel_ran_on_it(compiled: Compiled) -> None:
    """And only those: the trace says which device ran a call."""
    devices = devices_of_the_golden_run(compiled.bundle)
    ours = {kernel for kernel, device in devices.items() if device == NAME}
    even = {kernel for kernel in devices if int(re.search(r"(\d+)_", kernel)[1]) % 2 == 0}  # type: ignore[index]
    assert ours and ours <= even and len(ours) > len(even) // 2
    assert set(devices.values()) == {NAME, "cpu"}


def test_what_it_runs_and_refuses_is_said(compiled: Compiled) -> None:
    lines = [line for line in compiled.coverage if line.startswith("group0: ")]
    assert any(line.startswith(f"group0: {NAME} runs ") for line in lines)
    assert any(f"{NAME} refused " in line and "it takes every other kernel" in line for line in lines)
    assert " crossings, " in lines[-1] and 0.0 < compiled.accelerated < 1.0


def test_latents_are_those_of_the_cpu_alone(demo: SmallDemo, compiled: Compiled) -> None:
    """Float kernels sum in another order and may tip a rounding tie, no more: as between boards."""
    assert psnr_db(read_golden(demo.compiled.bundle).latents, read_golden(compiled.bundle).latents) > 60


def test_golden_output_is_repeated(compiled: Compiled) -> None:
    with Bundle.open(compiled.bundle) as bundle, BundleDecoder.open(compiled.bundle) as decoder:
        bundle.verify()
        decoder.verify()


def test_without_the_backend_the_bundle_is_refused_by_name(compiled: Compiled, backend: ReferenceBackend) -> None:
    from tvm_flow.backends import registry

    registry.forget_backend(NAME)
    try:
        with pytest.raises((BundleError, ConfigError, RuntimeFailure), match=NAME):
            Bundle.open(compiled.bundle)
    finally:
        registry.register_backend(backend)
