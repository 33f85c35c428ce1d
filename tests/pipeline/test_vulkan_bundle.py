"""The demo's first two steps on a Vulkan driver, every call compared, under the validation layers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from support.small_demo import SmallDemo
from support.validated_vulkan import Said, validated

from tvm_flow.bench.vulkan import measured
from tvm_flow.cli import main
from tvm_flow.compile.command import Compiled
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import RuntimeFailure
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_golden
from tvm_flow.pipeline.stages import compile_stage
from tvm_flow.run import Bundle, BundleDecoder


@pytest.fixture(scope="module")
def said() -> Iterator[Said]:
    with validated() as layers:
        yield layers


@pytest.fixture(scope="module")
def compiled(demo: SmallDemo, said: Said, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Checked as it was compiled, by the suite that checks every backend."""
    output = tmp_path_factory.mktemp("vulkan") / "bundle"
    made = compile_stage(demo.exported.folder, "vulkan-llvmpipe", output, CompileOptions(threads=1, progress=False))
    assert said.text == ""
    return made


def test_every_call_was_compared(demo: SmallDemo, compiled: Compiled) -> None:
    here, there = demo.compiled.exactness, compiled.exactness
    assert there["calls"] == there["expected_calls"] and here["calls"] == here["expected_calls"]
    assert there["quantized"] == here["quantized"]
    # The CPU alone computes an attention and what moves around it as one kernel, which hands over nothing in between.
    assert there["calls"] > here["calls"] and there["floats"] > here["floats"]


def test_latents_are_those_of_the_cpu(demo: SmallDemo, compiled: Compiled) -> None:
    """Float kernels sum in another order and may tip a rounding tie, no more: as between boards."""
    assert psnr_db(read_golden(demo.compiled.bundle).latents, read_golden(compiled.bundle).latents) > 60


def test_all_calls_of_steps_and_decoder_run_on_it(compiled: Compiled) -> None:
    """The golden output again, from the commands that were recorded at open, where the check ran calls alone."""
    golden, devices = read_golden(compiled.bundle), set()
    with Bundle.open(compiled.bundle) as bundle, BundleDecoder.open(compiled.bundle) as decoder:
        latents = bundle.generate(golden.noise, golden.cond, golden.uncond)
        assert latents.tobytes() == golden.latents.tobytes()
        frames = decoder.decode(latents)
        with decoder.trace(lambda call: devices.add(call.device)):
            assert (decoder.decode(latents) == frames).all() and np.isfinite(frames).all()
        decoder.verify()
    assert devices == {"vulkan"}


def test_a_c_program_finds_the_device_beside_it(compiled: Compiled) -> None:
    """What a board runs: the checker that the bundle brings loads the device's library that it brings."""
    folder = compiled.bundle / "lib" / "vulkan-llvmpipe"
    done = subprocess.run([folder / "check_bundle", compiled.bundle], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the golden output, bit for bit" in done.stdout
    assert (compiled.bundle / "include" / "tvm_flow_vulkan.h").is_file()


def test_its_profile_is_by_the_devices_own_clock(compiled: Compiled, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(compiled.bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clocks"] == {"vulkan": "device"}
    assert all(row["fastest_ns"] > 0 and row["bound"] is None for row in report["rows"]), "peaks are the CPU's"


def test_the_bench_counts_what_its_library_holds(compiled: Compiled) -> None:
    step = measured(compiled.bundle, rounds=1)
    assert step.equal and step.ms is not None and step.ms > 0
    assert 0 < step.pipelines < 60 and 20 * step.pipelines < step.spirv_bytes < 1 << 20


def test_nothing_was_against_the_rules(compiled: Compiled, said: Said) -> None:
    """Of Vulkan's use and of synchronization, in any of the tests before."""
    assert compiled.bundle.is_dir() and said.text == ""


def test_without_its_device_it_is_refused_by_name(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_FLOW_VULKAN_DEVICE", "Adreno")
    with pytest.raises(RuntimeFailure, match="device vulkan: expected a device Adreno, got"):
        Bundle.open(compiled.bundle)
