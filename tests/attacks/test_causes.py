"""Every refusal has a cause of its own name, the same in C and in Python."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import flips, toy_bundle
from support.causes import cause_in_c, cause_in_python, forge, rewrite
from support.manifests import change_manifest

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError, RuntimeFailure, TvmFlowError
from tvm_flow.pack import Contents, verify_bundle, write_bundle
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.weights_file import FIRST_ALIGNMENT
from tvm_flow.run import Bundle, native
from tvm_flow.run.status import SIGNATURE_FAULTS, CError, Status, as_exception
from tvm_flow.toolchain.runtime_library import RUNTIME

GROUPS_AT, UPDATES_AT, VARIANTS_AT = 256, 704, 1472
"""Of steps.bin of the toy bundle: after header and sampler; after groups and timesteps; after records."""
DATA = ("steps.bin", "weights.bin", "golden.bin", "lib/toy/group1.so")


def cut(name: str, keep: Callable[[int], int]) -> Callable[[Path], object]:
    return lambda bundle: os.truncate(bundle / name, keep((bundle / name).stat().st_size))


def flip(name: str, bit: int) -> Callable[[Path], object]:
    def damage(bundle: Path) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        (bundle / name).write_bytes(data)

    return damage


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(bundle: Path) -> None:
        (bundle / name).rename(bundle.parent / "aside")
        make(bundle / name)

    return damage


def number(code: str, at: int, value: float | bytes) -> Callable[[Path], object]:
    """A number of steps.bin, whose digest is made to fit."""
    return lambda bundle: forge(bundle, lambda data: struct.pack_into(f"<{code}", data, at, value))


def library_for(machine: int) -> Callable[[Path], object]:
    """Of another processor, hashes and all."""

    def damage(bundle: Path) -> None:
        library = bytearray((bundle / "lib/toy/group0.so").read_bytes())
        struct.pack_into("<H", library, 18, machine)
        rewrite(bundle, "lib/toy/group0.so", bytes(library))
        number("32s", GROUPS_AT, hashlib.sha256(library).digest())(bundle)

    return damage


def weights_of_another(floats: int, known: bool = False) -> Callable[[Path], object]:
    """Whole ones, of so many numbers; ``known``: the manifest lists them, as if two bundles had been put together."""

    def damage(bundle: Path) -> None:
        (bundle / "weights.bin").unlink()
        store = WeightStore(bundle / "weights.bin", FIRST_ALIGNMENT)
        store.add(np.arange(floats, dtype="<f4"), "values")
        store.finish()
        if known:
            rewrite(bundle, "weights.bin", (bundle / "weights.bin").read_bytes())

    return damage


NAN = float("nan")
DAMAGE: dict[str, tuple[Cause, Callable[[Path], object]]] = {
    **{f"{name} is gone": (Cause.ABSENT, replaced(name, lambda _: None)) for name in DATA},
    **{f"{name} is empty": (Cause.TRUNCATED, cut(name, lambda _: 0)) for name in DATA},
    **{f"{name} is short": (Cause.TRUNCATED, cut(name, lambda size: size - 1)) for name in DATA},
    **{f"{name} is cut by 64": (Cause.TRUNCATED, cut(name, lambda size: size - 64)) for name in DATA},
    **{f"{name} is long": (Cause.CHANGED, cut(name, lambda size: size + 1)) for name in DATA},
    **{f"{name} is very long": (Cause.CHANGED, cut(name, lambda _: 10 << 30)) for name in DATA},
    **{f"{name} has a flip": (Cause.CHANGED, flip(name, 801)) for name in DATA},
    "another magic by a flip": (Cause.CHANGED, flip("steps.bin", 3)),
    "another schema by a flip": (Cause.CHANGED, flip("steps.bin", 8 * 8)),
    "another size by a flip": (Cause.CHANGED, flip("steps.bin", 8 * 16 + 14)),
    "a library of another processor": (Cause.WRONG_ARCHITECTURE, library_for(183)),
    "another schema": (Cause.WRONG_VERSION, number("I", 8, 9)),
    "another magic": (Cause.WRONG_STEP_TABLE, number("8s", 0, b"OTHERONE")),
    "another header": (Cause.WRONG_STEP_TABLE, number("I", 12, 191)),
    "another size": (Cause.WRONG_STEP_TABLE, number("Q", 16, 10)),
    "no steps": (Cause.WRONG_STEP_TABLE, number("I", 24, 0)),
    "three branches": (Cause.WRONG_STEP_TABLE, number("I", 28, 3)),
    "longer records": (Cause.WRONG_STEP_TABLE, number("I", 36, 1 << 30)),
    "five of four channels guided": (Cause.WRONG_STEP_TABLE, number("I", 40, 5)),
    "five output channels": (Cause.WRONG_STEP_TABLE, number("I", 44, 5)),
    "nine axes": (Cause.WRONG_STEP_TABLE, number("I", 48, 9)),
    "values past the end": (Cause.WRONG_STEP_TABLE, number("Q", 96, 1 << 60)),
    "guidance beyond all samplers": (Cause.WRONG_STEP_TABLE, number("d", 176, 1e9)),
    "a negative sigma": (Cause.WRONG_STEP_TABLE, number("d", UPDATES_AT + 16, -0.5)),
    "a variant of no group": (Cause.WRONG_STEP_TABLE, number("I", VARIANTS_AT, 2)),
    "weights of another bundle": (Cause.FOREIGN_WEIGHTS, weights_of_another(128)),
    "shorter ones of another bundle": (Cause.FOREIGN_WEIGHTS, weights_of_another(64)),
    "longer ones of another bundle": (Cause.FOREIGN_WEIGHTS, weights_of_another(256)),
    "those of another, listed": (Cause.FOREIGN_WEIGHTS, weights_of_another(128, known=True)),
    "values that begin nowhere": (Cause.WRONG_STEP_TABLE, number("I", 184, 1 << 20)),
    "values that begin between": (Cause.WRONG_STEP_TABLE, number("I", 184, 16380)),
    "a path out of the bundle": (Cause.OUTSIDE, number("152s", GROUPS_AT + 40, b"../../x.so")),
    "an absolute path": (Cause.OUTSIDE, number("152s", GROUPS_AT + 40, b"/lib/x.so")),
    "a link": (Cause.LINK, replaced("weights.bin", lambda path: path.symlink_to(path.parent.parent / "aside"))),
    "a dangling link": (Cause.LINK, replaced("golden.bin", lambda path: path.symlink_to("nowhere"))),
    "a fifo": (Cause.DEVICE, replaced("golden.bin", os.mkfifo)),
    "a folder": (Cause.DEVICE, replaced("steps.bin", os.mkdir)),
    "a name twice": (Cause.DUPLICATE_NAME, number("152s", GROUPS_AT + 192 + 40, b"lib/toy/group0.so")),
    "a name in capitals": (Cause.DUPLICATE_NAME, number("152s", GROUPS_AT + 192 + 40, b"lib/toy/GROUP0.so")),
    "too many steps": (Cause.SIZE_OVERFLOW, number("I", 24, 1 << 31)),
    "latents that wrap": (Cause.SIZE_OVERFLOW, number("Q", 64, 1 << 52 | 1 << 20)),
    "too many tokens": (Cause.SIZE_OVERFLOW, number("I", 52, 1 << 27)),
    "guidance that is no number": (Cause.NOT_FINITE, number("d", 176, NAN)),
    "a timestep that is no number": (Cause.NOT_FINITE, number("f", UPDATES_AT - 64, NAN)),
    "an update without end": (Cause.NOT_FINITE, number("d", UPDATES_AT + 40, float("inf"))),
    "a scale that is no number": (Cause.NOT_FINITE, number("f", VARIANTS_AT + 8 * 16 + 4, NAN)),
}


@pytest.fixture
def victim(contents: Contents, tmp_path: Path) -> Path:
    """A toy bundle of today's layout, to damage."""
    write_bundle(tmp_path / "b", flips.with_header(contents, tmp_path / "weights"))
    return tmp_path / "b"


def test_layout_that_the_table_assumes(victim: Path) -> None:
    data = (victim / "steps.bin").read_bytes()
    assert data[GROUPS_AT + 40 :].startswith(b"lib/toy/group0.so\0")
    assert struct.unpack_from("<2d", data, UPDATES_AT) == (1.0, 0.25)
    assert [struct.unpack_from("<I4xQ", data, VARIANTS_AT + 16 * i)[0] for i in range(8)] == [0, 0, 0, 0, 1, 1, 0, 0]
    assert (cause_in_c(victim), cause_in_python(victim)) == ((Cause.NONE, ""), (Cause.NONE, ""))


@pytest.mark.parametrize("which", DAMAGE)
def test_c_and_python_name_one_cause(victim: Path, which: str) -> None:
    expected, damage = DAMAGE[which]
    damage(victim)
    by_c, by_python = cause_in_c(victim), cause_in_python(victim)
    assert (by_c[0], by_python[0]) == (expected, expected), (by_c[1], by_python[1])


def test_every_cause_is_provoked_in_c_and_in_python() -> None:
    """What no damage has, below; signatures in `test_forged_signatures`."""
    elsewhere = {Cause.NONE, Cause.BAD_SIGNATURE}
    assert {cause for cause, _ in DAMAGE.values()} == set(Cause) - set(PROVOKED) - elsewhere


def test_the_list_is_that_of_the_header() -> None:
    header = (RUNTIME / "include" / "tvm_flow_cause.h").read_text()
    declared = {name: int(value) for name, value in re.findall(r"TVM_FLOW_CAUSE_(\w+) = (\d+)", header)}
    assert declared == {cause.name: cause.value for cause in Cause}


def a_feature_is_missing(contents: Contents, folder: Path) -> tuple[Cause, Cause]:
    """Of the processor; verify_bundle, which is for bundles of any, does not ask."""
    library = toy_bundle.compile_group(folder / "toy.so", cpu='"avx9000"')
    write_bundle(
        folder / "b", replace(contents, groups=[replace(contents.groups[0], library=library), contents.groups[1]])
    )
    verify_bundle(folder / "b")
    with pytest.raises(BundleError, match="avx9000") as caught:
        Bundle.open(folder / "b")
    return cause_in_c(folder / "b")[0], caught.value.cause


def a_device_is_missing(_contents: Contents, folder: Path) -> tuple[Cause, Cause]:
    library = toy_bundle.compile_split(folder / "split.so")
    write_bundle(folder / "b", toy_bundle.make_contents((library, library)))
    with pytest.raises(TvmFlowError, match="toy") as caught:
        Bundle.open(folder / "b")
    return cause_in_c(folder / "b")[0], caught.value.cause


def another_call_runs(contents: Contents, folder: Path) -> tuple[Cause, Cause]:
    """In the callback of one call, another: of the binding, then of the runtime below it."""
    write_bundle(folder / "b", contents)
    request, seen = toy_bundle.make_request(3), set[tuple[Cause, Cause]]()
    with Bundle.open(folder / "b", threads=1) as bundle:

        def again(*_: int) -> None:
            with pytest.raises(RuntimeFailure, match="one call at a time") as caught:
                bundle.velocity(0, 0, request.noise, request.cond)
            error = CError()
            assert runtime.tvm_flow_verify(bundle._pointer, ctypes.byref(error)) == Status.BUSY
            seen.add((Cause(runtime.tvm_flow_cause_of(error)), caught.value.cause))

        runtime = native.load_runtime()
        bundle.generate(request.noise, request.cond, request.uncond, again)
    (causes,) = seen
    return causes


def no_program_may_run(contents: Contents, folder: Path) -> tuple[Cause, Cause]:
    """On a file system that is mounted so, in a process of its own."""
    write_bundle(folder / "b", contents)
    (folder / "m").mkdir()
    mount = f"mount -t tmpfs -o noexec,size=2m none {folder}/m && cp -r {folder}/b {folder}/m/b && echo there"
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", NOEXEC, folder / "m/b"]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if not done.stdout.startswith("there"):
        pytest.skip(f"needs a mount namespace: {done.stderr.strip()}")
    by_c, by_python = done.stdout.split()[1:]
    return Cause[by_c], Cause[by_python]


NOEXEC = """
import sys
from pathlib import Path
from support.causes import cause_in_c
from tvm_flow.errors import TvmFlowError
from tvm_flow.run import Bundle
bundle = Path(sys.argv[1])
print(cause_in_c(bundle)[0].name)
try:
    Bundle.open(bundle)
except TvmFlowError as error:
    print(error.cause.name)
"""
Provoke = Callable[[Contents, Path], tuple[Cause, Cause]]
PROVOKED: dict[Cause, tuple[Provoke, ...]] = {
    Cause.MISSING_FEATURE: (a_feature_is_missing, a_device_is_missing),
    Cause.BUSY: (another_call_runs,),
    Cause.NOEXEC: (no_program_may_run,),
}


@pytest.mark.parametrize(("cause", "provoke"), [(cause, each) for cause, all_ in PROVOKED.items() for each in all_])
def test_c_and_python_name_one_cause_of_what_is_no_damage(
    contents: Contents, tmp_path: Path, cause: Cause, provoke: Provoke
) -> None:
    assert provoke(contents, tmp_path) == (cause, cause)


USUAL = {
    **dict.fromkeys((Status.WRONG_SCHEMA, Status.WRONG_ABI), Cause.WRONG_VERSION),
    **dict.fromkeys((Status.WRONG_CPU, Status.NO_DEVICE), Cause.MISSING_FEATURE),
    **dict.fromkeys((Status.NOT_SIGNED, Status.BAD_SIGNATURE, Status.UNKNOWN_KEY), Cause.BAD_SIGNATURE),
    Status.OLDER_VERSION: Cause.WRONG_VERSION,
    Status.BUSY: Cause.BUSY,
    Status.NOT_FINITE: Cause.NOT_FINITE,
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("message", [b"device toy: failed", b"x" * 508, b"\xff" * 508], ids=["short", "long", "odd"])
def test_an_error_that_a_device_filled_has_what_its_status_says(status: Status, message: bytes) -> None:
    cause = native.load_runtime().tvm_flow_cause_of(CError(status, message))
    assert cause == USUAL.get(status, Cause.NONE)
    if kind := SIGNATURE_FAULTS.get(status):
        assert kind("").cause == cause


def test_no_error_and_a_status_of_a_later_version_have_no_cause() -> None:
    cause_of = native.load_runtime().tvm_flow_cause_of
    assert [cause_of(None), cause_of(CError(77, b"")), cause_of(CError(-1, b""))] == [0, 0, 0]


def test_a_mount_without_execution_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_flow.run.status.is_noexec", lambda _: True)
    assert as_exception(Path("b"), CError(Status.BAD_LIBRARY, b"x.so")).cause is Cause.NOEXEC


def test_manifests_have_causes_too(victim: Path) -> None:
    """C does not read them."""
    text = (victim / "manifest.json").read_bytes()
    for length in (0, 1, 2, 100, len(text) // 2, len(text) - 30, len(text) - 3, len(text) - 2, len(text) - 1):
        (victim / "manifest.json").write_bytes(text[:length])
        assert cause_in_python(victim)[0] is Cause.TRUNCATED, length
    (victim / "manifest.json").write_bytes(text)
    change_manifest(victim, lambda values: values["files"].update({"Weights.bin": values["files"]["weights.bin"]}))
    assert cause_in_python(victim)[0] is Cause.DUPLICATE_NAME
    change_manifest(victim, lambda values: values.update(schema=9))
    assert cause_in_python(victim)[0] is Cause.WRONG_VERSION


def test_a_cause_outlives_a_pickle_and_stands_in_words() -> None:
    error = pickle.loads(pickle.dumps(BundleError("b: expected this, got that; do so", Cause.WRONG_STEP_TABLE)))
    assert (str(error), error.cause) == ("b: expected this, got that; do so", Cause.WRONG_STEP_TABLE)
    assert error.cause.words == "wrong step table" and not Cause.NONE


def test_flipped_bits_are_changes_to_both(contents: Contents, tmp_path: Path) -> None:
    """Some of them: scripts/damaged_files --flips N turns all of manifest, tables and headers, and N elsewhere."""
    bundle = flips.write_whole(tmp_path, contents)
    assert (cause_in_c(bundle)[0], cause_in_c(bundle, "tvm_flow_decoder")[0]) == (Cause.NONE, Cause.NONE)
    some = (flip for flip in flips.in_headers(bundle, every=1009))
    assert flips.wrong(bundle, some) == (sum(1 for _ in flips.in_headers(bundle, every=1009)), [])
    assert flips.wrong(bundle, flips.elsewhere(bundle, 40)) == (40, [])
    assert cause_in_python(bundle)[0] is Cause.NONE
