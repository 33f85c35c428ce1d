"""The optional part that checks signatures: RFC 8032's vectors, any length, the curve's library as it was published."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support import toy_bundle
from support.attack_programs import ENVIRONMENT, SIGNATURE_HEADERS, WATCHED, watched_signature

from tvm_flow.pack.trust import _WEAK
from tvm_flow.toolchain.runtime_library import C_FLAGS, RUNTIME, signature_sources

MONOCYPHER = RUNTIME / "signature" / "monocypher"
ORDER = 2**252 + 27742317777372353535851937790883648493
# RFC 8032, 7.1: secret key, public key, message, signature.
VECTORS = {
    "1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b",
    ),
    "2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
        "eeb00d291612bb0c00",
    ),
    "3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
        "8dc027beceea1ec40a",
    ),
    "SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac1"
        "7ad9bef1177331a704",
    ),
}
Row = tuple[bytes, bytes, bytes]
"""Key, signature, message."""


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Row]], list[list[str]]]:
    folder = tmp_path_factory.mktemp("part")
    sources = [toy_bundle.SOURCES / "ed25519_check.c", *watched_signature(folder, "-O0")]
    program = toy_bundle.compile_c(folder / "check", sources, *WATCHED, SIGNATURE_HEADERS)

    def run(rows: list[Row]) -> list[list[str]]:
        text = "".join(f"{key.hex()} {signature.hex()} {message.hex() or '-'}\n" for key, signature, message in rows)
        done = subprocess.run([program], input=text, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return [line.split() for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_of_rfc_8032(check: Callable[[list[Row]], list[list[str]]], name: str) -> None:
    secret, key, message, signature = VECTORS[name]
    holds = bytes.fromhex(key), bytes.fromhex(signature), message
    owner = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert (owner.public_key().public_bytes_raw(), owner.sign(message)) == holds[:2]
    other = bytes([holds[1][0] ^ 1]) + holds[1][1:]
    rows = [holds, (holds[0], other, message), (holds[0], holds[1], message + b"\0")]
    assert [row[:2] for row in check(rows)] == [["1", "0"], ["0", "0"], ["0", "0"]]


def test_messages_of_every_length(check: Callable[[list[Row]], list[list[str]]]) -> None:
    """Over three blocks of SHA-512, so that every padding comes up."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    messages = [bytes(i % 251 for i in range(length)) for length in range(330)]
    got = check([(key.public_key().public_bytes_raw(), key.sign(message), message) for message in messages])
    assert got == [["1", "0", hashlib.sha512(message).hexdigest()] for message in messages]


def test_a_second_spelling_of_a_signature_is_none(check: Callable[[list[Row]], list[list[str]]]) -> None:
    """s + L is the same number on the curve (RFC 8032, 5.1.7)."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    signature = key.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    again = signature[:32] + s.to_bytes(32, "little")
    assert check([(key.public_key().public_bytes_raw(), again, b"m")])[0][0] == "0"


def test_the_same_keys_are_weak_in_c_and_in_python(check: Callable[[list[Row]], list[list[str]]]) -> None:
    weak = [y[:31] + bytes([y[31] | sign]) for y in sorted(_WEAK) for sign in (0, 0x80)]
    strong = [bytes.fromhex(vector[1]) for vector in VECTORS.values()]
    said = [row[1] for row in check([(key, bytes(64), b"") for key in (*weak, *strong)])]
    assert said == ["1"] * len(weak) + ["0"] * len(strong)


def test_the_curves_library_is_what_was_published() -> None:
    stated = dict(
        reversed(line.split())
        for line in (MONOCYPHER / "README.md").read_text().splitlines()
        if line.startswith("    ")
    )
    files = [path for path in MONOCYPHER.iterdir() if path.suffix in (".c", ".h")]
    assert stated == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert "// Monocypher version 4.0.3\n" in (MONOCYPHER / "monocypher.c").read_text()
    assert "BSD" in (MONOCYPHER / "LICENSE.txt").read_text()


def test_it_compiles_without_a_warning_exports_one_function_and_knows_no_system(tmp_path: Path) -> None:
    flags = [*C_FLAGS, "-shared", "-s", "-Wpedantic"]
    library = toy_bundle.compile_c(tmp_path / "part.so", signature_sources(), *flags)
    listing = subprocess.run(["nm", "-D", str(library)], capture_output=True, text=True, check=True).stdout
    assert re.findall(r" T (\w+)", listing) == ["tvm_flow_check_signature"]
    for path in signature_sources():
        system = re.search(r"#\s*include\s*<(?!std|string)", path.read_text())
        assert system is None, path


def test_its_header_stands_alone_in_c_and_cpp(tmp_path: Path) -> None:
    for compiler, standard in (("gcc", "-std=c99"), ("g++", "-std=c++11")):
        source = tmp_path / ("use.c" if compiler == "gcc" else "use.cc")
        source.write_text('#include "tvm_flow_signature.h"\n#include "tvm_flow_signature.h"\n')
        includes = [f"-I{RUNTIME / 'include'}", SIGNATURE_HEADERS]
        subprocess.run([compiler, standard, "-Wpedantic", "-Werror", "-fsyntax-only", *includes, source], check=True)
