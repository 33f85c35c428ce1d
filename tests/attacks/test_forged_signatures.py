"""Signatures that are forged, damaged, exchanged or absent: C and Python name the same cause, and nothing is opened."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.attack_programs import Attack
from support.manifests import change_manifest
from support.signed_bundles import KEY, MODEL, OTHER_KEY, VERSION, public, replace_signature, signed_toy, trust_in

from tvm_flow.causes import Cause
from tvm_flow.errors import (
    BadSignatureError,
    BundleError,
    NotSignedError,
    OlderVersionError,
    SignatureError,
    UnknownKeyError,
)
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.pack.format import SIGNATURE, STEPS
from tvm_flow.pack.signature import read_statement, sign_bundle
from tvm_flow.pack.trust import Trust, accept_file, verify_signature
from tvm_flow.run import Bundle, native
from tvm_flow.run.status import SIGNATURE_FAULTS, CError, Status

OPENS = {"address": 150, "thread": 60}


@pytest.fixture(scope="module")
def signed(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: copy it before changing it."""
    return signed_toy(tmp_path_factory.mktemp("signed") / "b", contents)


@pytest.fixture(scope="module")
def other(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another bundle of the same shape and model, also signed: it guides more."""
    return signed_toy(tmp_path_factory.mktemp("other") / "b", replace(contents, cfg_scale=9.5))


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed, tmp_path / "b")
    return tmp_path / "b"


def status_of(error: BundleError) -> int:
    """What C says of the same."""
    found = [status for status, kind in SIGNATURE_FAULTS.items() if isinstance(error, kind)]
    return found[0] if found else Status.WRONG_SCHEMA


def python_says(bundle: Path, trust: Trust) -> int:
    try:
        verify_signature(bundle, trust)
    except BundleError as error:
        return status_of(error)
    return Status.OK


def c_says(attack: Attack, bundle: Path, *arguments: str) -> tuple[list[int], str]:
    """Statuses of open, plan and the decoder's open, then of golden tests; version and message."""
    statuses, _, rest = c_tells(attack, bundle, *arguments)
    return statuses, rest


def c_tells(attack: Attack, bundle: Path, *arguments: str) -> tuple[list[int], Cause, str]:
    """The same with the cause of the last failure."""
    words, _, rest = attack("try_signed", bundle, *arguments).partition("cause ")
    cause, _, rest = rest.partition(" version ")
    return [int(word) for word in words.split()], Cause(int(cause)), rest


def test_what_is_signed_opens_and_gives_its_golden_output(attack: Attack, signed: Path) -> None:
    statuses, rest = c_says(attack, signed, MODEL, str(VERSION), public(OTHER_KEY), public(KEY))
    assert (statuses, rest) == ([0, 0, 0, 0, 0], f"{VERSION}: \n")


def forge(bundle: Path) -> None:
    statement = replace(read_statement((bundle / SIGNATURE).read_bytes()), version=VERSION + 5).encode()
    (bundle / SIGNATURE).write_bytes(statement + OTHER_KEY.sign(statement))


def of_other_domain(bundle: Path) -> None:
    """Signed by the key itself, for another purpose."""
    statement = b"tvm-flow update list".ljust(32, b"\0") + (bundle / SIGNATURE).read_bytes()[32:240]
    (bundle / SIGNATURE).write_bytes(statement + KEY.sign(statement))


def unsign(bundle: Path) -> None:
    (bundle / SIGNATURE).unlink()


def of_schema_2(bundle: Path) -> None:
    data = bytearray((bundle / SIGNATURE).read_bytes())
    data[32:36] = b"\2\0\0\0"
    (bundle / SIGNATURE).write_bytes(data)


def nothing(bundle: Path) -> None:
    """Only what is asked differs."""


ASKED = (MODEL, VERSION, KEY)
CASES: dict[str, tuple[Callable[[Path], None], tuple[str, int, object], type[BundleError], str]] = {
    "absent": (unsign, ASKED, NotSignedError, "NOT_SIGNED"),
    "forged": (forge, ASKED, BadSignatureError, "BAD_SIGNATURE"),
    "for another purpose": (of_other_domain, ASKED, BadSignatureError, "BAD_SIGNATURE"),
    "of another schema": (of_schema_2, ASKED, BundleError, "WRONG_SCHEMA"),
    "by another key": (nothing, (MODEL, VERSION, OTHER_KEY), UnknownKeyError, "UNKNOWN_KEY"),
    "of an older version": (nothing, (MODEL, VERSION + 1, KEY), OlderVersionError, "OLDER_VERSION"),
    "of another model": (nothing, ("shoes", VERSION, KEY), BadSignatureError, "BAD_SIGNATURE"),
    "by an older version's key": (nothing, (MODEL, VERSION + 1, OTHER_KEY), UnknownKeyError, "UNKNOWN_KEY"),
}


@pytest.mark.parametrize("name", CASES)
def test_c_and_python_name_the_same_cause(attack: Attack, copy: Path, name: str) -> None:
    damage, (model, least, key), kind, status = CASES[name]
    damage(copy)
    trust = trust_in(key, **{model: least})  # type: ignore[arg-type]
    with pytest.raises(kind) as refused:
        Bundle.open(copy, threads=1, trust=trust)
    statuses, cause, rest = c_tells(attack, copy, model, str(least), public(key))  # type: ignore[arg-type]
    assert status_of(refused.value) == Status[status]
    wrong_version = kind is OlderVersionError or status == "WRONG_SCHEMA"
    assert cause is refused.value.cause is (Cause.WRONG_VERSION if wrong_version else Cause.BAD_SIGNATURE)
    assert statuses == [Status[status]] * 3
    assert rest.startswith("0: signature.bin: expected ")


def test_a_signature_of_another_bundle(attack: Attack, copy: Path, other: Path) -> None:
    replace_signature(copy, other)
    with pytest.raises(BadSignatureError, match=r"steps.bin: expected the file that was signed"):
        verify_signature(copy, trust_in(KEY))
    statuses, rest = c_says(attack, copy, "-", "0", public(KEY))
    assert statuses == [Status.BAD_SIGNATURE] * 2 + [Status.OK]  # their decoders are the same
    assert rest.startswith("3: steps.bin: expected the file that was signed")


@pytest.mark.parametrize("name", ["steps.bin", "decoder.bin"])
def test_a_file_of_another_bundle_that_the_manifest_agrees_with(
    attack: Attack, copy: Path, other: Path, name: str
) -> None:
    data = bytearray((other / name).read_bytes())
    if name == "decoder.bin":
        data[-1] ^= 1
    (copy / name).write_bytes(data)
    statuses, rest = c_says(attack, copy, "-", "0", public(KEY))
    refused = [Status.BAD_SIGNATURE] * 2, [Status.OK]
    assert statuses == (refused[0] + refused[1] if name == "steps.bin" else [0, 0, Status.BAD_SIGNATURE])
    assert f"{name}: expected the file that was signed" in rest


@pytest.mark.parametrize("name", ["weights.bin", "lib/toy/group0.so", "golden.bin", "decoder_weights.bin"])
def test_what_steps_and_decoder_state_is_bound_by_them(attack: Attack, copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    statuses, rest = c_says(attack, copy, "-", "0", public(KEY))
    assert Status.CORRUPT in statuses and f"{name}: expected sha256" in rest


def test_a_manifest_that_tells_people_something_else(copy: Path) -> None:
    change_manifest(copy, lambda value: value["provenance"].__setitem__("made", "by somebody else"))
    with pytest.raises(BadSignatureError, match=r"manifest.json: expected the file that was signed"):
        Bundle.open(copy, threads=1, trust=trust_in(KEY))


def test_every_flipped_bit_and_every_length_has_the_same_cause_in_c_and_python(attack: Attack, signed: Path) -> None:
    data = (signed / SIGNATURE).read_bytes()
    statement, trust = read_statement(data), trust_in(KEY)

    def says(other: bytes) -> int:
        try:
            accept_file(trust, other, STEPS, statement.digests[STEPS])
        except BundleError as error:
            return status_of(error)
        return Status.OK

    flipped = []
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.append(says(bytes(changed)))
    lengths = [says((data + b"\0\0")[:length]) for length in range(len(data) + 2)]
    got = [int(word) for word in attack("flip_signature", signed, public(KEY)).split()]
    assert got == flipped + lengths
    assert Status.OK not in flipped and lengths.count(Status.OK) == 1
    assert set(flipped) == {Status.BAD_SIGNATURE, Status.UNKNOWN_KEY, Status.WRONG_SCHEMA}


@pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31, "ff" * 32])
def test_a_key_that_anybody_can_sign_with_is_none(attack: Attack, copy: Path, key: str) -> None:
    """A table that nobody filled in; s 0 and R the identity fit every message then."""
    statement = replace(read_statement((copy / SIGNATURE).read_bytes()), key=bytes.fromhex(key)).encode()
    (copy / SIGNATURE).write_bytes(statement + b"\1" + bytes(63))
    statuses, _ = c_says(attack, copy, "-", "0", key)
    weak = Status.BAD_SIGNATURE if key.startswith("ff") else Status.INVALID_ARGUMENT
    assert statuses == [weak] * 3


def test_steps_that_are_exchanged_while_they_are_opened_are_never_used(
    attack_with_threads: Attack, copy: Path, other: Path, request: pytest.FixtureRequest
) -> None:
    opens = OPENS[request.node.callspec.params["attack_with_threads"]]
    said = attack_with_threads("signed_race", copy, other, public(KEY), str(opens))
    opened, refused, others, wrong = map(int, said.split())
    assert opened + refused == opens and min(opened, refused) > opens // 15, "the exchange must fall into the opening"
    assert (others, wrong) == (0, 0)


def test_what_is_exchanged_after_python_looked_is_refused_by_the_runtime(
    copy: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = trust_in(KEY)

    def look_and_exchange(directory: Path, asked: Trust) -> None:
        verify_signature(directory, asked)
        for name in ("steps.bin", "manifest.json"):
            shutil.copyfile(other / name, directory / name)

    monkeypatch.setattr("tvm_flow.run.bundle.verify_signature", look_and_exchange)
    with pytest.raises(BadSignatureError, match=r"steps.bin: expected the file that was signed"):
        Bundle.open(copy, threads=1, trust=trust)


def test_an_unsigned_bundle_opens_for_who_does_not_ask(copy: Path) -> None:
    for damage in (forge, unsign):
        damage(copy)
        with Bundle.open(copy, threads=1) as bundle:
            bundle.verify()


def test_who_accepts_an_unsigned_bundle_is_told_no_error(bundle_dir: Path) -> None:
    """The caller's error is written on failure only."""
    signatures = []

    def accept(_user: object, seen: ctypes._Pointer[native.CIdentity], _error: object) -> int:
        signatures.append(bool(seen.contents.signature))
        return Status.OK

    callback = native.ACCEPT(accept)
    options = native.COptions(struct_bytes=ctypes.sizeof(native.COptions), threads=1)
    options.accept = ctypes.cast(callback, ctypes.c_void_p)
    runtime, pointer, error = native.load_runtime(), ctypes.c_void_p(), CError(77, b"mine")
    arguments = os.fsencode(bundle_dir), ctypes.byref(options), ctypes.byref(pointer), ctypes.byref(error)
    assert (runtime.tvm_flow_open(*arguments), signatures) == (Status.OK, [False])
    runtime.tvm_flow_close(pointer)
    assert (error.status, error.message) == (77, b"mine")


def test_signed_bundles_compute_what_unsigned_ones_do(signed: Path, contents: Contents) -> None:
    golden = contents.golden
    with Bundle.open(signed, threads=1, trust=trust_in(KEY)) as bundle:
        bundle.verify()
        got = bundle.generate(golden.noise, golden.cond, golden.uncond)
    assert np.array_equal(got, golden.latents)


def test_all_causes_are_signature_errors() -> None:
    assert all(issubclass(kind, SignatureError) for kind in SIGNATURE_FAULTS.values())
    assert {Status(status).name for status in SIGNATURE_FAULTS} == {
        *("NOT_SIGNED", "BAD_SIGNATURE", "UNKNOWN_KEY", "OLDER_VERSION")
    }


def test_a_bundle_without_a_decoder(attack: Attack, contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    sign_bundle(tmp_path / "b", KEY, MODEL, VERSION)
    assert python_says(tmp_path / "b", trust_in(KEY)) == Status.OK
    statuses, _ = c_says(attack, tmp_path / "b", MODEL, "0", public(KEY))
    assert statuses == [0, 0, Status.FILE_ERROR]
