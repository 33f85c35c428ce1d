"""signature.bin: who made a bundle, which model it is, and which version of it.

A file of its own beside manifest.json, in no listing, so that signing changes no other byte, and a reader that does not
ask opens a signed bundle as it opens any. Little endian, 304 bytes:

    at  bytes
     0     32  "tvm-flow bundle signature", zeros: no signature of another kind can be taken for this one
    32      4  u32 schema: 1
    36      4  u32 bytes that are signed: 240
    40      8  u64 version: a counter of the signer's, against downgrades
    48     64  model: its name in UTF-8, zeros, at least one
   112     32  sha256 of steps.bin
   144     32  sha256 of decoder.bin; zeros where there is none
   176     32  sha256 of manifest.json
   208     32  Ed25519 public key
   240     64  its signature (RFC 8032, pure Ed25519) of the 240 bytes before

These three digests bind every byte of a bundle. The C runtime reads no manifest: steps.bin states the sha256 of
weights, golden pair and each group's library, decoder.bin that of its weights and library, and what is loaded has
those. The manifest states that of every file, those for people too, and what Python shows.

Readers in C and in Python refuse by the same causes (`tvm_flow.errors.SignatureError`, tvm_flow_status), in this order:
not signed; another schema; bad signature, by its length and first fields; unknown key; bad signature; bad signature, as
it is of another bundle or model; older version.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tvm_flow.artifact import exclusive, fsync, linked
from tvm_flow.causes import Cause
from tvm_flow.errors import BadSignatureError, BundleError, ConfigError, NotSignedError
from tvm_flow.pack.decoder import DECODER
from tvm_flow.pack.format import MANIFEST, SIGNATURE, STEPS
from tvm_flow.pack.regular import open_regular, read_regular, unreadable
from tvm_flow.pack.verify import verify_bundle
from tvm_flow.scratch import beside

DOMAIN, SCHEMA = b"tvm-flow bundle signature".ljust(32, b"\0"), 1
MOST = 4096
"""Bytes that C reads of a file, whatever its schema."""
MOST_VERSION = 2**64 - 1
_SIGNED = struct.Struct("<32sIIQ64s32s32s32s32s")
_BYTES = _SIGNED.size + 64
_MODEL = 64
_DIGESTS = (STEPS, DECODER, MANIFEST)
_NONE = bytes(32)


@dataclass(frozen=True)
class Statement:
    """What a signer says of a bundle; ``digests`` are by the names of its files."""

    model: str
    version: int
    digests: dict[str, bytes]
    key: bytes

    def encode(self) -> bytes:
        """The bytes that are signed."""
        digests = (self.digests.get(name, _NONE) for name in _DIGESTS)
        return _SIGNED.pack(DOMAIN, SCHEMA, _SIGNED.size, self.version, self.model.encode(), *digests, self.key)


def sign_bundle(directory: Path, key: Ed25519PrivateKey, model: str, version: int) -> Statement:
    """Write the signature of the bundle ``directory``, in the place of any before it.

    Raises BundleError when the bundle is not whole: nothing else is signed. Raises ConfigError for a name or a version
    that does not fit its field, or where another command writes the bundle.
    """
    if not 0 < len(model.encode()) < _MODEL or not model.isprintable():
        raise ConfigError(f"model: expected a name of 1 to {_MODEL - 1} bytes, got {model!r}; choose another")
    if not 0 <= version <= MOST_VERSION:
        raise ConfigError(f"version: expected 0 to {MOST_VERSION}, got {version}; choose another")
    with exclusive(directory):
        verify_bundle(directory)
        statement = Statement(model, version, _digests_of(directory), key.public_key().public_bytes_raw())
        signed = statement.encode()
        _put(linked(directory), signed + key.sign(signed))
    return statement


def _put(directory: Path, signature: bytes) -> None:
    """From beside the bundle, in which what a killed process leaves would be a file that nothing lists."""
    with beside(directory) as folder:
        made = folder / SIGNATURE
        made.write_bytes(signature)
        fsync(made)
        made.replace(directory / SIGNATURE)
        fsync(directory)


def read_signature(directory: Path) -> bytes:
    """signature.bin as it is; raises NotSignedError where there is none."""
    try:
        return read_regular(directory / SIGNATURE, MOST)
    except OSError as error:
        raise NotSignedError(
            f"{directory / SIGNATURE}: expected a signature, got none ({error.strerror}); sign the bundle (tvm-flow "
            "sign), or copy it again"
        ) from error


def read_statement(data: bytes) -> Statement:
    """What ``data``, the bytes of signature.bin, states, by its first fields: who said it, `check_signer` has to tell.

    Raises BundleError for another schema, BadSignatureError for what is no signature.
    """
    if data[:32] == DOMAIN and len(data) >= 36 and (schema := int.from_bytes(data[32:36], "little")) != SCHEMA:
        raise BundleError(
            f"{SIGNATURE}: expected schema {SCHEMA}, got {schema}; sign with this version of tvm-flow",
            Cause.WRONG_VERSION,
        )
    if len(data) == _BYTES:
        domain, _, length, version, model, *digests, key = _SIGNED.unpack_from(data)
        if (domain, length) == (DOMAIN, _SIGNED.size) and b"\0" in model:
            name = model.partition(b"\0")[0].decode(errors="replace")
            return Statement(name, version, dict(zip(_DIGESTS, digests, strict=True)), key)
    raise BadSignatureError(
        f"{SIGNATURE}: expected {_BYTES} bytes of a signature, got {len(data)} others; copy the bundle again, or "
        "sign it"
    )


def check_signer(data: bytes) -> None:
    """Raises BadSignatureError unless the key that ``data`` names signed it."""
    signed, signature = data[: _SIGNED.size], data[_SIGNED.size :]
    try:
        Ed25519PublicKey.from_public_bytes(signed[-32:]).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(
            f"{SIGNATURE}: expected a signature by the key that it names, got another; do not use this bundle"
        ) from error


def check_digest(statement: Statement, name: str, got: bytes) -> None:
    """Raises BadSignatureError unless ``got``, the sha256 of the file ``name``, is the one that was signed."""
    expected = statement.digests.get(name, _NONE)
    if got != expected:
        raise BadSignatureError(
            f"{name}: expected the file that was signed, sha256 {expected.hex()[:12]}..., got {got.hex()[:12]}...; do "
            "not use this bundle, or copy it again"
        )


def check_files(directory: Path, statement: Statement) -> None:
    """`check_digest` of all three files; zeros stand for a decoder that is not there.

    Raises BundleError with its cause for one that cannot be read, or is no regular file.
    """
    found = _digests_of(directory)
    for name in _DIGESTS:
        check_digest(statement, name, found.get(name, _NONE))


def _digests_of(directory: Path) -> dict[str, bytes]:
    found = {}
    for name in _DIGESTS:
        try:
            with open_regular(directory / name) as (stream, _):
                found[name] = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            if name != DECODER or not isinstance(error, FileNotFoundError):
                raise unreadable(directory / name, error) from error
    return found
