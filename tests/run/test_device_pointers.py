"""Devices are found by name in the libraries of their backends, and named when they are not."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import toy_bundle
from support.reference_backend import NAME, ReferenceBackend, registered

from tvm_flow.errors import ConfigError, RuntimeFailure
from tvm_flow.run.devices import device_pointers


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[ReferenceBackend]:
    with registered(ReferenceBackend(tmp_path)) as known:
        yield known


def test_a_pointer_is_to_the_device_type_of_the_name(backend: ReferenceBackend) -> None:
    (pointer,) = device_pointers(["cpu", NAME])
    name = ctypes.c_char_p.from_address(pointer + 8)  # after abi and struct_bytes
    assert name.value == NAME.encode() and backend.runtime_library().is_file()


def test_the_cpu_needs_none() -> None:
    assert len(device_pointers([])) == len(device_pointers(["cpu"])) == 0


def test_a_library_is_not_made_before_it_is_needed(backend: ReferenceBackend) -> None:
    device_pointers(["cpu"])
    assert not list(backend.folder.iterdir())


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ConfigError, match="backend 'npu': expected one of cpu"):
        device_pointers(["npu"])


def test_a_library_without_the_device_is_named(backend: ReferenceBackend, tmp_path: Path) -> None:
    (tmp_path / "d.c").write_text("const unsigned other[] = {11};")
    toy_bundle.compile_c(tmp_path / "libtvm_flow_device_reference.so", [tmp_path / "d.c"], "-shared", "-fPIC")
    with pytest.raises(RuntimeFailure, match="to export tvm_flow_device_reference, got none"):
        device_pointers([backend.name])


def test_a_library_that_cannot_be_loaded_is_named(backend: ReferenceBackend, tmp_path: Path) -> None:
    (tmp_path / "libtvm_flow_device_reference.so").write_bytes(b"no library")
    with pytest.raises(RuntimeFailure, match="device reference: expected to load"):
        device_pointers([backend.name])


def test_what_runs_a_bundle_does_not_load_the_compiler() -> None:
    """torch, TVM and onnx took 360 MB of a process that needed none of them."""
    lines = [
        "import sys",
        "from tvm_flow.run.devices import device_pointers",
        "device_pointers(['cpu'])",
        "assert not {'torch', 'tvm', 'onnx'} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
