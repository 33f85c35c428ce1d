"""Libraries whose tables lie, packed as they are: the runtime refuses them at open, before any kernel."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle
from support.attack_programs import Attack

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import Bundle
from tvm_flow.run.status import Status
from tvm_flow.toolchain.runtime_library import runtime_sources

HUGE = "0xfffffffffffffff0u"
# macro -> (value, what the message says)
LIES: dict[str, tuple[dict[str, str | int], str]] = {
    "older abi": ({"abi": 2}, "expected library ABI 3 .* got ABI 2"),
    "newer abi": ({"abi": 4}, "expected library ABI 3 .* got ABI 4"),
    "shorter descriptor": ({"struct_bytes": 64}, "got ABI 3 with 64 bytes"),
    "strange cpu": ({"cpu": '"avx9000"'}, "its kernels use avx9000, which this processor does not report"),
    "more weights": ({"weights_bytes": 4096}, "needs 4096 bytes of weights, but the bundle has 512"),
    "fewer weights": ({"weights_bytes": 500}, "tensor 10: expected an extent inside its space"),
    "no services": ({"enter": "NULL"}, "enter 0: expected a function that takes the services"),
    "no tensors": ({"tensors": "NULL"}, "tensors 11: expected a table behind its count"),
    "outside arena": ({"v_offset": 512}, "tensor 9: expected an extent inside its space"),
    "far outside": ({"v_offset": "0xffffffffffffffc0u"}, "tensor 9: expected an extent inside its space"),
    "unaligned": ({"v_offset": 444}, "tensor 9: expected an offset that 64 divides"),
    "negative size": ({"v_shape0": -4}, "tensor 9: expected at most 8 positive sizes"),
    "zero size": ({"v_shape0": 0}, "tensor 9: expected at most 8 positive sizes"),
    "overflowing size": ({"v_shape0": "0x4000000000000000"}, "tensor 9: expected"),
    "larger size": ({"v_shape0": 5}, "tensor 9: expected an extent inside its space"),
    "smaller size": ({"v_shape0": 3}, "output 9: expected as many values as steps.bin says"),
    "odd type": ({"v_bits": 31}, "tensor 9: expected .* whole bytes"),
    "half output": ({"v_bits": 16}, "output 9: expected float32 in the arena"),
    "no space": ({"v_space": 4}, "tensor 9: expected a known memory space"),
    "writes weights": ({"last_arg": 10}, "call 2: expected an output in the arena"),
    "writes constants": ({"last_arg": 3}, "call 2: expected an output in the arena"),
    "no such tensor": ({"last_arg": 11}, "arg 11: expected a tensor of this library"),
    "no such kernel": ({"last_kernel": 3}, "call 2: expected a kernel of this library"),
    "too many arguments": ({"last_count": 5}, "call 2: expected arguments in their table"),
    "endless arguments": ({"last_count": "0xffffffffu"}, "call 2: expected at least one argument"),
    "no arguments": ({"last_count": 0}, "call 2: expected at least one argument"),
    "unknown fold": ({"fold_op": 9}, "fold 0: expected a known operation"),
    "flips too much": ({"fold_op": 5, "fold_b": HUGE}, "fold 0: expected bits of one word"),
    "fold outside": ({"fold_out": 300}, "fold 0: expected a result inside the step block"),
    "fold far outside": ({"fold_out": HUGE}, "fold 0: expected a result inside the step block"),
    "fold between": ({"fold_out": 2}, "fold 0: expected offsets of whole floats"),
    "fold past variant": ({"fold_a": 5}, "fold 0: expected a source inside its record"),
    "fold far past": ({"fold_a": HUGE}, "fold 0: expected a source inside its record"),
    "fold past weights": ({"fold_b": 388}, "fold 0: expected factors inside the weights"),
    "two inputs": ({"num_inputs": 2}, "inputs 2: expected three: z, y and mask"),
    "longer variant": ({"variant_floats": 6}, "needs 6 floats a variant, but the bundle has 5"),
    "endless arena": ({"arena_bytes": HUGE}, "no memory for an arena"),
    "endless prompt": ({"prompt_bytes": HUGE}, "no memory for an arena of 1024 bytes and 2 prompts of"),
    "outside prompt": ({"context_offset": 128}, "tensor 8: expected an extent inside its space"),
    "far outside prompt": ({"context_offset": "0xffffffffffffffc0u"}, "tensor 8: expected an extent inside its space"),
    "no prompt": ({"prompt_bytes": 0}, "tensor 8: expected an extent inside its space"),
    "prologue past the calls": ({"prologue_calls": 4}, "prologue calls 4: expected at most as many as there are calls"),
    "endless prologue": ({"prologue_calls": "0xffffffffu"}, "prologue calls 4294967295: expected at most"),
    "prologue of the latent": ({"prologue_calls": 2}, "call 1: expected a prologue without the latent"),
    "latent for tokens": ({"first_arg": 0}, "call 0: expected a prologue without the latent"),
    "step writes prompt": ({"prologue_calls": 0}, "call 0: expected an output in the arena;"),
    "late write to prompt": ({"last_arg": 8}, "call 2: expected an output in the arena;"),
    "nothing writes the output": ({"last_arg": 7}, "output 9: expected a call of the step that writes it"),
    "the output is the latent": ({"result": 0}, "output 0: expected a call of the step that writes it"),
    "prologue writes weights": ({"context_space": "TVM_FLOW_WEIGHTS"}, "call 0: .* arena or the prompt's space"),
    "output in the prompt": ({"v_space": "TVM_FLOW_PROMPT", "v_offset": 0, "prompt_bytes": 128}, "output 9: .* arena"),
}
STATUS = {
    "older abi": Status.WRONG_ABI,
    "newer abi": Status.WRONG_ABI,
    "shorter descriptor": Status.WRONG_ABI,
    "strange cpu": Status.WRONG_CPU,
}


def pack(folder: Path, contents: Contents, library: Path) -> Path:
    groups = [replace(contents.groups[0], library=library), contents.groups[1]]
    write_bundle(folder / "b", replace(contents, groups=groups))
    return folder / "b"


@pytest.mark.parametrize("which", LIES)
def test_lies_are_found_at_open(attack: Attack, tmp_path: Path, contents: Contents, which: str) -> None:
    macros, message = LIES[which]
    library = toy_bundle.compile_group(tmp_path / "lie.so", "-Wno-overflow", **macros)
    bundle = pack(tmp_path, contents, library)
    number, _, said = attack("try_open", bundle).strip().partition(" ")
    kinds = {Status.BAD_LIBRARY, Status.CORRUPT, Status.NO_MEMORY}
    assert Status(int(number)) in ({STATUS[which]} if which in STATUS else kinds), said
    assert re.search(message, said), said


def test_the_binding_says_the_same(tmp_path: Path, contents: Contents) -> None:
    library = toy_bundle.compile_group(tmp_path / "lie.so", abi=1)
    with pytest.raises(BundleError, match=r"lib/toy/group0.so: expected library ABI 3 .* got ABI 1"):
        Bundle.open(pack(tmp_path, contents, library))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int unrelated;", "expected a symbol tvm_flow_library, got none"),
        ("extern int missing(void); int (*tvm_flow_library)(void) = missing;", "could not load: .*missing"),
    ],
)
def test_libraries_of_other_programs(tmp_path: Path, contents: Contents, source: str, message: str) -> None:
    (tmp_path / "other.c").write_text(source)
    flags = ["-shared", "-fPIC"]
    library = toy_bundle.compile_c(tmp_path / "other.so", [tmp_path / "other.c"], *flags)
    with pytest.raises(BundleError, match=message):
        Bundle.open(pack(tmp_path, contents, library))


def test_a_bundle_replaced_while_open(tmp_path: Path, contents: Contents) -> None:
    """Each handle has the library that its bundle held when it was opened."""
    old = toy_bundle.compile_group(tmp_path / "old.so")
    new = toy_bundle.compile_group(tmp_path / "new.so", sign="3.0f")
    request = toy_bundle.make_request(4)
    with Bundle.open(pack(tmp_path, contents, old)) as first:
        before = first.velocity(0, 0, request.noise, request.cond)
        with Bundle.open(pack(tmp_path, contents, new)) as second:
            assert (second.velocity(0, 0, request.noise, request.cond) != before).any()
        assert (first.velocity(0, 0, request.noise, request.cond) == before).all()


@pytest.mark.parametrize(
    ("machine", "name"), [(183, "aarch64 .ELF machine 183."), (40, "arm "), (8, "another .ELF machine 8.")]
)
def test_a_library_of_another_machine_is_named(
    attack: Attack, tmp_path: Path, contents: Contents, machine: int, name: str
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 to be the other machine's opposite")
    library = bytearray(contents.groups[0].library.read_bytes())
    library[18:20] = machine.to_bytes(2, "little")
    (tmp_path / "other.so").write_bytes(library)
    said = attack("try_open", pack(tmp_path, contents, tmp_path / "other.so"))
    assert said.startswith(f"{Status.BAD_LIBRARY.value} ")
    assert re.search(f"group0[.]so: expected a library for x86_64, got one for {name}", said)


def test_a_mount_without_execution_is_named(tmp_path: Path, contents: Contents) -> None:
    bundle = pack(tmp_path, contents, contents.groups[0].library)
    (tmp_path / "m").mkdir()
    source = Path(__file__).parent / "try_open.c"
    program = toy_bundle.compile_c(tmp_path / "try_open", [source, *runtime_sources()])
    script = f"mount -t tmpfs -o noexec,size=2m none {tmp_path}/m && cp -r {bundle} {tmp_path}/m/b && echo there"
    command = ["unshare", "-m", "sh", "-c", f"{script} && {program} {tmp_path}/m/b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("there"):
        pytest.skip(f"needs a mount namespace: {done.stderr.strip()}")
    said = done.stdout.removeprefix("there").strip()
    assert said.startswith(f"{Status.BAD_LIBRARY.value} ") and "got one that is mounted noexec" in said


def test_libraries_cut_short(tmp_path: Path, contents: Contents) -> None:
    good = contents.groups[0].library.read_bytes()
    for length in (20, 64, 200, len(good) // 4, len(good) // 2):
        (tmp_path / "cut.so").write_bytes(good[:length])
        with pytest.raises(BundleError, match=r"group0[.]so: expected an ELF library"):
            Bundle.open(pack(tmp_path, contents, tmp_path / "cut.so"))
