"""Programs that use the API as it says they must not, or from a thread or process that is set up strangely."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

import pytest
from support import toy_bundle, toy_decoder
from support.attack_programs import Attack

from tvm_flow.errors import RuntimeFailure
from tvm_flow.pack import Contents
from tvm_flow.run import Bundle, native
from tvm_flow.run.status import Status
from tvm_flow.toolchain.runtime_library import RUNTIME, build_runtime

X86 = os.uname().machine == "x86_64"


@pytest.fixture(scope="module")
def decoding(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with its decoder; read only."""
    folder = tmp_path_factory.mktemp("decoding")
    toy_decoder.write_decoding(folder / "b", contents)
    return folder / "b"


def test_the_callers_rounding_and_denormals_change_no_bit_and_come_back(
    attack_with_threads: Attack, decoding: Path
) -> None:
    assert attack_with_threads("float_mode", decoding) == f"{5 if X86 else 3}\n"


def test_a_forked_child_is_told_so_by_every_function_and_opens_its_own(attack: Attack, decoding: Path) -> None:
    """Not under ThreadSanitizer: it ends a process that starts a thread after a parent of several forked it."""
    child, parent = attack("fork_use", decoding).splitlines()
    refused = [str(Status.FORKED.value)]
    assert child.split() == 2 * ["1", *5 * refused] + 2 * refused + ["0", "0"]
    assert parent.split() == 5 * ["0"], "what the parent has is not disturbed"


def test_structures_that_end_within_a_field_are_refused(attack_with_threads: Attack, decoding: Path) -> None:
    lines = attack_with_threads("odd_sizes", decoding).splitlines()
    options, decode = ([int(each) for each in line.split()] for line in lines)
    # Up to the first pointer fields of four bytes; then whole pointers, whose upper half would be the caller's noise.
    assert options == [4, 8, 12, 16, *range(24, ctypes.sizeof(native.COptions) + 1, 8)]
    assert decode == list(range(24, ctypes.sizeof(native.CDecodeRequest) + 1, 8))


@pytest.mark.parametrize("callback", ["progress", "trace"])
def test_an_exception_does_not_pass_through_the_runtime(bundle_dir: Path, tmp_path: Path, callback: str) -> None:
    """It ends the program, as C++ says, and no handle stays half used: the runtime has nothing to unwind by."""
    runtime, program = tmp_path / "libtvm_flow.so.0", tmp_path / "throw_through"
    runtime.symlink_to(build_runtime())
    source = Path(__file__).with_name("throw_through.cc")
    command = ["g++", "-std=c++11", f"-I{RUNTIME / 'include'}", str(source), "-o", str(program), str(runtime)]
    subprocess.run(command, check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    run = [str(program), str(bundle_dir), callback]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -6 and "terminate" in done.stderr and not done.stdout


def test_no_path_is_no_root(attack: Attack) -> None:
    number, _, message = attack("try_open", "").partition(" ")
    assert int(number) == Status.INVALID_ARGUMENT and 'bundle_dir: expected a folder, got ""' in message


def test_a_long_path_leaves_the_cause(attack: Attack, tmp_path: Path) -> None:
    message = attack("try_open", tmp_path / "/".join(["x" * 200] * 18))
    assert str(tmp_path)[:80] in message and " ... " in message and len(message) <= 515
    assert "expected a readable file, got: No such file or directory; check the bundle's path" in message


def test_control_characters_of_a_path_do_not_reach_a_terminal(attack: Attack, tmp_path: Path) -> None:
    message = attack("try_open", tmp_path / "a\x1b[2J\x07\r\nb\x7f").removesuffix("\n")
    assert "/a?[2J???b?/steps.bin: expected a readable file" in message
    assert message.isprintable()


@pytest.mark.parametrize("name", ["steps.bin", "lib/toy/group0.so", "weights.bin", "golden.bin", "decoder.bin"])
def test_ten_gigabytes_are_refused_before_they_are_read(
    attack: Attack, decoding: Path, tmp_path: Path, name: str
) -> None:
    subprocess.run(["cp", "-r", str(decoding), str(tmp_path / "b")], check=True)
    os.truncate(tmp_path / "b" / name, 10 << 30)
    began = time.monotonic()
    if name == "decoder.bin":
        status, message = _open_decoder(tmp_path / "b")
    else:
        number, _, message = attack("try_open", tmp_path / "b").partition(" ")
        status = int(number)
    # Reading takes 100 s; the program that says so is compiled in the same time.
    assert status == Status.CORRUPT and "10737418240" in message and name in message
    assert time.monotonic() - began < 60


def _open_decoder(directory: Path) -> tuple[int, str]:
    runtime, pointer, error = native.load_runtime(), ctypes.c_void_p(), native.CError()
    status = runtime.tvm_flow_decoder_open(os.fsencode(directory), None, ctypes.byref(pointer), ctypes.byref(error))
    return status, error.message.decode()


def test_the_binding_in_a_forked_child(bundle: Bundle) -> None:
    """Python's own fork, as multiprocessing makes it."""
    request = toy_bundle.make_request(3)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            bundle.velocity(0, 0, request.noise, request.cond)
        except RuntimeFailure as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        assert "expected a handle of this process" in said.read()
    bundle.velocity(0, 0, request.noise, request.cond)
