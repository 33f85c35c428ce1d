"""Keys to sign with: an Ed25519 private key in PKCS#8 PEM, as OpenSSL has it, that its owner alone can read."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tvm_flow.artifact import exclusive, fsync, write_bytes
from tvm_flow.documents import read_small
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import beside

_MOST = 1 << 16
"""Bytes of a key file: some hundred are usual."""
PUBLIC = ".pub"


def new_key(path: Path) -> str:
    """Write a new private key to ``path`` (0600) and its public one, which is returned in hexadecimal, beside it.

    Both are whole or absent; the private one comes last, so that none is without its public one. Raises ConfigError
    when something lies there: no key is replaced. Nor is a folder made for it.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: expected a folder that is there to write a new key to, got none; make it first")
    with exclusive(path):
        if os.path.lexists(path):
            raise ConfigError(f"{path}: expected nothing to write a new key to, got a file; choose another name")
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw().hex()
        with beside(path) as folder:
            private = folder / path.name
            descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                stream.flush()
                os.fsync(stream.fileno())
            write_bytes(path.with_name(path.name + PUBLIC), f"{public}\n".encode())
            private.rename(path)
            fsync(path.parent)
    return public


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a file; raises ConfigError when it holds none, or when others may read it."""
    try:
        data, mode = read_small(path, _MOST), path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a private key, got: {error}; make one: tvm-flow sign --new-key") from error
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path}: expected an Ed25519 private key in PEM without a password, got another file; name the one that "
            "--new-key made, not what ends in .pub"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}; make one with --new-key")
    if mode & 0o077:
        raise ConfigError(
            f"{path}: expected a private key that its owner alone can read, got mode {mode & 0o777:04o}; chmod 600 it, "
            "and make a new one if others could read it"
        )
    return key
