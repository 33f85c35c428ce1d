"""Devices are found by name in the libraries that were registered, and named when they are not."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from support import toy_bundle

from tvm_flow.errors import RuntimeFailure
from tvm_flow.run import devices
from tvm_flow.run.devices import device_pointers, register_device_library


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_LOADERS", {})


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Two devices, of which this test reads the first number."""
    (tmp_path / "d.c").write_text("const unsigned tvm_flow_device_one[] = {11}, tvm_flow_device_two[] = {22};")
    return toy_bundle.compile_c(tmp_path / "d.so", [tmp_path / "d.c"], "-shared", "-fPIC")


def test_pointers_are_those_of_the_names_in_their_order(library: Path) -> None:
    for name in ("one", "two"):
        register_device_library(name, lambda: library)
    pointers = device_pointers(["two", "one", "two"])
    assert [ctypes.c_uint32.from_address(pointer).value for pointer in pointers] == [22, 11, 22]


def test_no_names_are_no_pointers() -> None:
    assert len(device_pointers([])) == 0


def test_a_library_is_not_asked_for_before_it_is_needed(library: Path) -> None:
    register_device_library("one", lambda: library)
    register_device_library("two", lambda: pytest.fail("built"))
    assert len(device_pointers(["one"])) == 1


def test_an_unknown_device_is_named(library: Path) -> None:
    with pytest.raises(
        RuntimeFailure, match=r"device npu: expected a registered one \(none\), got a bundle that needs"
    ):
        device_pointers(["npu"])
    register_device_library("one", lambda: library)
    with pytest.raises(RuntimeFailure, match=r"device npu: expected a registered one \(one\)"):
        device_pointers(["one", "npu"])


def test_a_library_without_the_device_is_named(library: Path, tmp_path: Path) -> None:
    register_device_library("three", lambda: library)
    with pytest.raises(RuntimeFailure, match="to export tvm_flow_device_three, got none"):
        device_pointers(["three"])
    register_device_library("three", lambda: tmp_path / "absent.so")
    with pytest.raises(RuntimeFailure, match=r"device three: expected to load .*absent[.]so, got"):
        device_pointers(["three"])
