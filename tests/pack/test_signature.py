"""Signing changes no other file; each way in which a signature is not the one asked for has its own cause."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.signed_bundles import KEY, MODEL, OTHER_KEY, VERSION, files_of, public, signed_toy, trust_in

from tvm_flow.artifact import is_current, make_stamp, write_stamp
from tvm_flow.causes import Cause
from tvm_flow.errors import (
    BadSignatureError,
    BundleError,
    ConfigError,
    NotSignedError,
    OlderVersionError,
    UnknownKeyError,
)
from tvm_flow.pack import Contents, signature, signing_keys, verify_bundle, write_bundle
from tvm_flow.pack.format import SIGNATURE
from tvm_flow.pack.signature import read_statement, sign_bundle
from tvm_flow.pack.signing_keys import PUBLIC, load_key, new_key
from tvm_flow.pack.trust import Trust, load_trust, trust_itself, verify_signature


@pytest.fixture(scope="module")
def signed(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: copy it before changing it."""
    return signed_toy(tmp_path_factory.mktemp("signed") / "b", contents)


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed, tmp_path / "b")
    return tmp_path / "b"


def test_a_signed_bundle_is_the_unsigned_one_and_a_file(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "b")
    statement = sign_bundle(tmp_path / "b", KEY, MODEL, VERSION)
    files = files_of(tmp_path / "b")
    assert len(files.pop(SIGNATURE)) == 304
    assert files == files_of(bundle_dir)
    assert (statement.model, statement.version, statement.key.hex()) == (MODEL, VERSION, public(KEY))
    verify_bundle(tmp_path / "b")


def test_what_was_signed_is_accepted_and_read_back(signed: Path) -> None:
    for trust in (trust_in(OTHER_KEY, KEY), trust_in(KEY, sneakers=VERSION), trust_itself(signed)):
        assert verify_signature(signed, trust) == read_statement((signed / SIGNATURE).read_bytes())


def test_another_key(signed: Path) -> None:
    with pytest.raises(UnknownKeyError, match=f"expected one of 1 trusted keys, got {public(KEY)}"):
        verify_signature(signed, trust_in(OTHER_KEY))


def test_an_older_version(signed: Path) -> None:
    with pytest.raises(OlderVersionError, match="expected version 4 of sneakers or later, got 3"):
        verify_signature(signed, trust_in(KEY, sneakers=4))


def test_another_model(signed: Path) -> None:
    with pytest.raises(BadSignatureError, match=r"expected a model among \['shoes'\], got one signed as sneakers"):
        verify_signature(signed, trust_in(KEY, shoes=0))


def test_none(bundle_dir: Path) -> None:
    with pytest.raises(NotSignedError, match=r"signature.bin: expected a signature, got none \(No such file"):
        verify_signature(bundle_dir, trust_in(KEY))


def test_a_pipe_is_not_waited_for(copy: Path) -> None:
    (copy / SIGNATURE).unlink()
    os.mkfifo(copy / SIGNATURE)
    with pytest.raises(BundleError, match="expected a regular file"):
        verify_signature(copy, trust_in(KEY))


def test_one_of_another_schema(copy: Path) -> None:
    data = bytearray((copy / SIGNATURE).read_bytes())
    data[32] = 2
    (copy / SIGNATURE).write_bytes(data)
    with pytest.raises(BundleError, match=r"expected schema 1, got 2") as refused:
        verify_signature(copy, trust_in(KEY))
    assert (type(refused.value), refused.value.cause) == (BundleError, Cause.WRONG_VERSION)


@pytest.mark.parametrize("name", ["steps.bin", "decoder.bin", "manifest.json"])
def test_a_file_that_was_not_signed(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(BadSignatureError, match=f"{name}: expected the file that was signed, sha256 .*, got "):
        verify_signature(copy, trust_in(KEY))


@pytest.mark.parametrize("name", ["steps.bin", "decoder.bin", "manifest.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_in_the_place_of_a_signed_one_is_not_waited_for(
    copy: Path, name: str, make: Callable[[Path], None]
) -> None:
    (copy / name).unlink()
    make(copy / name)
    with pytest.raises(BundleError, match=f"{name}: expected a regular file") as refused:
        verify_signature(copy, trust_in(KEY))
    assert refused.value.cause is Cause.DEVICE


@pytest.mark.parametrize("name", ["steps.bin", "manifest.json"])
def test_a_signed_file_that_is_gone(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: expected a readable file, got: .*No such file") as refused:
        verify_signature(copy, trust_in(KEY))
    assert refused.value.cause is Cause.ABSENT


def test_a_decoder_that_is_gone(copy: Path) -> None:
    (copy / "decoder.bin").unlink()
    with pytest.raises(BadSignatureError, match=r"decoder.bin: expected the file that was signed"):
        verify_signature(copy, trust_in(KEY))


def test_a_decoder_that_was_added(contents: Contents, signed: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    sign_bundle(tmp_path / "b", KEY, MODEL, VERSION)
    shutil.copyfile(signed / "decoder.bin", tmp_path / "b" / "decoder.bin")
    with pytest.raises(BadSignatureError, match=r"decoder.bin: expected the file that was signed"):
        verify_signature(tmp_path / "b", trust_in(KEY))


def test_a_statement_that_its_key_did_not_sign(copy: Path) -> None:
    """Forged: everything that is not the signature itself is as the key's owner would have it."""
    forged = replace(read_statement((copy / SIGNATURE).read_bytes()), version=VERSION + 1).encode()
    (copy / SIGNATURE).write_bytes(forged + OTHER_KEY.sign(forged))
    with pytest.raises(BadSignatureError, match="expected a signature by the key that it names"):
        verify_signature(copy, trust_in(KEY))


def test_nothing_but_a_whole_bundle_is_signed(copy: Path) -> None:
    before = (copy / SIGNATURE).read_bytes()
    (copy / "weights.bin").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"weights.bin: expected"):
        sign_bundle(copy, KEY, MODEL, VERSION + 1)
    assert (copy / SIGNATURE).read_bytes() == before


@pytest.mark.parametrize(
    ("model", "version"), [("", 1), ("x" * 64, 1), ("a\nb", 1), ("a\0b", 1), ("a", -1), ("a", 2**64)]
)
def test_names_and_versions_that_do_not_fit(copy: Path, model: str, version: int) -> None:
    with pytest.raises(ConfigError, match=r"expected .*; choose another"):
        sign_bundle(copy, KEY, model, version)


def test_a_bundle_is_as_current_as_before_it_was_signed(copy: Path) -> None:
    stamp = make_stamp({}, {"target": "toy"}, "tvm_flow.pack.write")
    write_stamp(copy, stamp)
    sign_bundle(copy, KEY, MODEL, VERSION + 1)
    assert is_current(copy, stamp)
    (copy / "weights.bin").write_bytes(b"other")
    assert not is_current(copy, stamp)


def test_killed_while_it_is_written_the_bundle_is_whole_and_is_signed_again(copy: Path) -> None:
    before = files_of(copy)
    assert killed(lambda: sign_bundle(copy, KEY, MODEL, VERSION + 1), signature, "fsync")
    assert files_of(copy) == before
    verify_bundle(copy)
    sign_bundle(copy, KEY, MODEL, VERSION + 1)
    assert files_of(copy).keys() == before.keys() and [path.name for path in copy.parent.iterdir()] == [copy.name]


def killed(action: Callable[[], object], module: ModuleType, name: str) -> bool:
    """Whether ``action`` ended so, where ``module`` calls its ``name``."""
    if (child := os.fork()) == 0:
        setattr(module, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class TestKeys:
    def test_a_new_one_is_its_owners_alone_and_signs(self, tmp_path: Path, copy: Path) -> None:
        key = tmp_path / "release.key"
        printed = new_key(key)
        assert key.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / f"release.key{PUBLIC}").read_text() == f"{printed}\n"
        sign_bundle(copy, load_key(key), MODEL, VERSION)
        verify_signature(copy, Trust({"release": printed}))

    def test_no_key_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "k").write_bytes(b"mine")
        with pytest.raises(ConfigError, match="expected nothing to write a new key to, got a file"):
            new_key(tmp_path / "k")
        assert files_of(tmp_path) == {"k": b"mine"}

    @pytest.mark.parametrize(("call", "there"), [("write_bytes", False), ("fsync", True)])
    def test_a_killed_command_leaves_no_part_of_a_key(self, tmp_path: Path, call: str, there: bool) -> None:
        assert killed(lambda: new_key(tmp_path / "k"), signing_keys, call)
        assert (tmp_path / "k").exists() == there
        if not there:
            new_key(tmp_path / "k")
            assert {path.name for path in tmp_path.iterdir()} == {"k", f"k{PUBLIC}"}
        key = load_key(tmp_path / "k")
        assert (tmp_path / f"k{PUBLIC}").read_text() == f"{public(key)}\n"

    def test_a_folder_that_is_not_there_is_not_made_for_a_key(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="expected a folder that is there"):
            new_key(tmp_path / "mistyped" / "k")
        assert list(tmp_path.iterdir()) == []

    def test_a_key_whose_public_half_cannot_be_written_is_not_kept(self, tmp_path: Path) -> None:
        (tmp_path / f"k{PUBLIC}").mkdir()
        with pytest.raises(OSError, match="directory"):
            new_key(tmp_path / "k")
        assert not (tmp_path / "k").exists()

    def test_one_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        new_key(tmp_path / "k")
        (tmp_path / "k").chmod(0o640)
        with pytest.raises(ConfigError, match="got mode 0640; chmod 600"):
            load_key(tmp_path / "k")

    def test_a_public_one_is_not_asked_to_be_hidden(self, tmp_path: Path) -> None:
        new_key(tmp_path / "k")
        with pytest.raises(ConfigError, match="got another file; name the one that --new-key made"):
            load_key(tmp_path / "k.pub")

    @pytest.mark.parametrize(
        "options", [["-algorithm", "rsa"], ["-algorithm", "ed25519", "-aes256", "-pass", "pass:x"]]
    )
    def test_another_kind_of_key_or_one_with_a_password(self, tmp_path: Path, options: list[str]) -> None:
        subprocess.run(["openssl", "genpkey", *options, "-out", tmp_path / "k"], check=True, capture_output=True)
        (tmp_path / "k").chmod(0o600)
        with pytest.raises(ConfigError, match="expected an Ed25519 private key"):
            load_key(tmp_path / "k")

    def test_one_that_openssl_made(self, tmp_path: Path) -> None:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "k"], check=True)
        (tmp_path / "k").chmod(0o600)
        assert isinstance(load_key(tmp_path / "k"), Ed25519PrivateKey)

    @pytest.mark.parametrize("data", [b"", b"\0" * 100, b"-----BEGIN PRIVATE KEY-----\n", b"x" * (1 << 17)])
    def test_what_is_no_key(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "k").write_bytes(data)
        (tmp_path / "k").chmod(0o600)
        with pytest.raises(ConfigError, match="expected a"):
            load_key(tmp_path / "k")


class TestTrustFiles:
    def test_yaml_and_json(self, tmp_path: Path) -> None:
        (tmp_path / "t.yaml").write_text(f"keys:\n  release: {public(KEY)}\nmodels:\n  sneakers: 3\n")
        (tmp_path / "t.json").write_text(f'{{"keys": {{"release": "{public(KEY)}"}}, "models": {{"sneakers": 3}}}}')
        expected = Trust({"release": public(KEY)}, {"sneakers": 3})
        assert load_trust(tmp_path / "t.yaml") == load_trust(tmp_path / "t.json") == expected

    def test_the_least_version_never_falls(self) -> None:
        assert trust_in(KEY).at_least("a", 2).models == {"a": 2}
        assert trust_in(KEY, a=5, b=1).at_least("a", 2).models == {"a": 5}

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "keys: {}",
            "models: {a: 1}",
            "keys: [a]",
            "keys: {a: 5}",
            f"keys: {{a: {'0' * 63}x}}",
            f"keys: {{a: '{'1' * 62}'}}",
            f"keys: {{a: '{public(KEY)}'}}\nmodels: {{b: -1}}",
            f"keys: {{a: '{public(KEY)}'}}\nmodels: {{b: {2**64}}}",
            f"keys: {{a: '{public(KEY)}'}}\nmodels: {{b: true}}",
            f"keys: {{a: '{public(KEY)}'}}\nmodels: {{b: '1'}}",
            f"keys: {{a: '{public(KEY)}'}}\nleast: {{b: 1}}",
            f"keys: {{a: '{public(KEY)}', a: '{public(KEY)}'}}",
            "a: &a [x]\nkeys: *a",
            "keys: " + "[" * 100 + "]" * 100,
            "keys: {a: !!python/object/apply:os.system [true]}",
            "keys: {a: 'x\x1b[2J'}",
        ],
    )
    def test_what_is_none_is_refused_in_one_line(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "t.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"t\.yaml: .*expected|t\.yaml: .*keys") as refused:
            load_trust(tmp_path / "t.yaml")
        assert "\x1b" not in str(refused.value)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
    def test_what_is_no_file_is_not_waited_for(self, tmp_path: Path, make: object) -> None:
        make(tmp_path / "t.yaml")  # type: ignore[operator]
        with pytest.raises(ConfigError, match=r"t\.yaml: expected a readable YAML trust file"):
            load_trust(tmp_path / "t.yaml")

    @pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 31 + "80"])
    def test_a_key_that_anybody_can_sign_with(self, key: str) -> None:
        with pytest.raises(ConfigError, match="expected a public key, got one that anybody can sign with"):
            Trust({"release": key})
