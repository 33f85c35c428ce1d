"""The ABI is what abi.txt says, and tvm_flow.hpp stands on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import toy_bundle, toy_decoder
from support.abi import STORED, describe
from support.attack_programs import ENVIRONMENT
from support.sanitized import OPTIMIZED, SANITIZERS, sanitized_runtime

from tvm_flow.pack import Contents
from tvm_flow.toolchain.runtime_library import RUNTIME, build_runtime


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="abi.txt is of 64-bit machines")
def test_the_abi_is_what_was_written_down(tmp_path: Path) -> None:
    """A line that is gone or another breaks programs of this major version; new ones are written down with a reason.

    ``support.abi.describe`` gives the text.
    """
    now, stored = describe(tmp_path).splitlines(), STORED.read_text().splitlines()
    assert [line for line in stored if line not in now] == [], "compiled programs would break"
    assert [line for line in now if line not in stored] == [], "new: add it to abi.txt"
    assert any(line.startswith("struct tvm_flow_options memory_limit at ") for line in stored)


def test_every_function_that_is_declared_is_exported(tmp_path: Path) -> None:
    listing = subprocess.run(["nm", "-D", str(build_runtime())], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[2] for line in listing.splitlines() if " T " in line}
    assert exported == {line.split()[1] for line in describe(tmp_path).splitlines() if line.startswith("function ")}


@pytest.mark.parametrize("standard", ["c++17", "c++20"])
def test_the_wrapper_for_cpp(contents: Contents, tmp_path: Path, standard: str) -> None:
    """Handles that close themselves, errors as values, exceptions of callbacks that come back to the caller."""
    toy_decoder.write_decoding(tmp_path / "b", contents)
    (tmp_path / "libtvm_flow.so.0").symlink_to(build_runtime())
    source, program = toy_bundle.SOURCES / "wrapper_check.cc", tmp_path / "wrapper_check"
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wpedantic", "-fsanitize=address,undefined"]
    command = ["g++", f"-std={standard}", *warnings, f"-I{RUNTIME / 'include'}", source, "-o", program]
    subprocess.run([*command, tmp_path / "libtvm_flow.so.0"], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    run = [program, tmp_path / "b"]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_the_wrapper_for_cpp_under_the_thread_sanitizer(contents: Contents, tmp_path: Path) -> None:
    """With the runtime built in: it sees nothing of a library that was built without it."""
    toy_decoder.write_decoding(tmp_path / "b", contents)
    watched, runtime = (*OPTIMIZED, SANITIZERS["thread"]), sanitized_runtime(SANITIZERS["thread"])
    source, program = toy_bundle.SOURCES / "wrapper_check.cc", tmp_path / "wrapper_check"
    command = ["g++", "-std=c++17", *watched, f"-I{RUNTIME / 'include'}", source, runtime, "-o", program]
    subprocess.run([*command, "-lm", "-lpthread", "-ldl"], check=True)
    done = subprocess.run([program, tmp_path / "b"], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
