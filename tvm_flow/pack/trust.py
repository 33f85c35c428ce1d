"""Whom to trust: a YAML or JSON file of public keys and, where it names models, of the least version of each.

    keys:
      release: 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c    # printed by tvm-flow sign --new-key
    models:
      sneakers: 3

Where models are named no older version is accepted, and no other model; else every model in any version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tvm_flow.errors import BadSignatureError, BundleError, ConfigError, OlderVersionError, UnknownKeyError
from tvm_flow.fields import check_fields, described, from_mapping, read_yaml
from tvm_flow.pack.format import SIGNATURE
from tvm_flow.pack.signature import (
    MOST_VERSION,
    Statement,
    check_digest,
    check_files,
    check_signer,
    read_signature,
    read_statement,
)

_P = 2**255 - 19
_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_WEAK = {y.to_bytes(32, "little") for y in (0, 1, _P - 1, _P, _P + 1, _ORDER_8, _P - _ORDER_8)}
"""Points of low order, without the bit of their sign: anybody can sign for them."""


@dataclass(frozen=True)
class Trust:
    """Public keys in hexadecimal by names, and the least version of each model that is accepted; none: every model."""

    keys: Annotated[Mapping[str, str], described("a mapping of names to public keys, at least one", 1)]
    models: Annotated[Mapping[str, int], described("a mapping of models to versions")] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError for what is no such mapping, no key, or a key that anybody can sign with."""
        check_fields(self, "trust: ")
        for name, text in self.keys.items():
            if not re.fullmatch("[0-9a-fA-F]{64}", text):
                raise ConfigError(
                    f"trust: key {name}: expected 64 hexadecimal digits, got {text!r:.80}; copy what tvm-flow sign "
                    "--new-key printed"
                )
            raw = bytes.fromhex(text)
            if raw[:31] + bytes([raw[31] & 0x7F]) in _WEAK:
                raise ConfigError(
                    f"trust: key {name}: expected a public key, got one that anybody can sign with; remove it"
                )
        for model, version in self.models.items():
            if not 0 <= version <= MOST_VERSION:
                raise ConfigError(f"trust: models: {model}: expected 0 to {MOST_VERSION}, got {version}; correct it")

    def name_of(self, key: bytes) -> str | None:
        """The name of a trusted key."""
        return next((name for name, text in self.keys.items() if bytes.fromhex(text) == key), None)

    def at_least(self, model: str, version: int) -> Trust:
        """The same for ``model`` alone, from ``version`` on, or from a later one that it asked for before."""
        return replace(self, models={model: max(version, self.models.get(model, 0))})


def load_trust(path: Path) -> Trust:
    """Read a trust file; raises ConfigError naming it for what is none."""
    values = read_yaml(path, "trust file")
    try:
        return from_mapping(Trust, "trust: ", values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def check_trust(trust: Trust, data: bytes) -> Statement:
    """What the bytes of signature.bin state, if one of the trusted keys signed it.

    Raises BundleError and SignatureErrors as `tvm_flow.pack.signature` says, but for what `accept_file` compares.
    """
    statement = read_statement(data)
    if trust.name_of(statement.key) is None:
        raise UnknownKeyError(
            f"{SIGNATURE}: expected one of {len(trust.keys)} trusted keys, got {statement.key.hex()}; have it "
            "signed by one of them, or add the key to the trust file"
        )
    check_signer(data)
    return statement


def accept_file(trust: Trust, data: bytes, name: str, sha256: bytes) -> Statement:
    """`check_trust`, and that the file ``name`` of that ``sha256`` is the one signed, of a version that is accepted."""
    statement = check_trust(trust, data)
    check_digest(statement, name, sha256)
    _check_version(trust, statement)
    return statement


def verify_signature(directory: Path, trust: Trust) -> Statement:
    """Check the signature of the bundle ``directory`` and that it is of this one; its files are `verify_bundle`'s."""
    data = read_signature(directory)
    try:
        statement = check_trust(trust, data)
        check_files(directory, statement)
        _check_version(trust, statement)
    except BundleError as error:
        if str(error).startswith(str(directory)):
            raise
        raise type(error)(f"{directory}: {error}", error.cause) from error
    return statement


def trust_itself(directory: Path) -> Trust:
    """Trust in whoever signed the bundle: what is left to check is that it is whole."""
    statement = read_statement(read_signature(directory))
    try:
        return Trust({"its own key": statement.key.hex()})
    except ConfigError as error:
        raise BadSignatureError(f"{directory / SIGNATURE}: {error}") from error


def _check_version(trust: Trust, statement: Statement) -> None:
    least = trust.models.get(statement.model, None if trust.models else 0)
    if least is None:
        raise BadSignatureError(
            f"{SIGNATURE}: expected a model among {sorted(trust.models)}, got one signed as {statement.model}; open "
            "that model's bundle"
        )
    if statement.version < least:
        raise OlderVersionError(
            f"{SIGNATURE}: expected version {least} of {statement.model} or later, got {statement.version}; install a "
            "newer bundle"
        )
