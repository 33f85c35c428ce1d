"""Bundles of the toy model that somebody signed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support import toy_decoder
from tvm_flow.pack import Contents
from tvm_flow.pack.format import SIGNATURE
from tvm_flow.pack.signature import sign_bundle
from tvm_flow.pack.trust import Trust

MODEL, VERSION = "sneakers", 3
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))


def public(key: Ed25519PrivateKey) -> str:
    """As trust files and C programs of the tests are given it."""
    return key.public_key().public_bytes_raw().hex()


def trust_in(*keys: Ed25519PrivateKey, **models: int) -> Trust:
    """Of ``keys``, under the names key0, key1 and so on."""
    return Trust({f"key{i}": public(key) for i, key in enumerate(keys)}, models)


def signed_toy(bundle: Path, contents: Contents, version: int = VERSION) -> Path:
    """The toy ``bundle`` with its decoder, signed with KEY."""
    toy_decoder.write_decoding(bundle, contents)
    sign_bundle(bundle, KEY, MODEL, version)
    return bundle


def signed_later(bundle: Path, contents: Contents) -> Path:
    """The next version of `signed_toy`, another in its manifest alone."""
    return signed_toy(bundle, replace(contents, provenance={"made": "later"}), VERSION + 1)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace_signature(bundle: Path, other: Path) -> None:
    """Put the signature of ``other`` into ``bundle``."""
    shutil.copyfile(other / SIGNATURE, bundle / SIGNATURE)
