"""``tvm-flow sign``, ``verify`` and ``install``: their options, and what they print."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_flow.cli.argument_types import at_least
from tvm_flow.cli.shared_options import threads_option

if TYPE_CHECKING:
    from tvm_flow.pack.trust import Trust

_TRUST = "YAML of public keys (keys: {NAME: HEX}) and, if it names some, least versions (models: {NAME: N})"


def trust_option(parser: argparse.ArgumentParser, purpose: str) -> None:
    """A trust file, for ``purpose``."""
    parser.add_argument("--trust", type=Path, metavar="FILE", help=f"{purpose}: {_TRUST}")


def trust_given(arguments: argparse.Namespace) -> Trust | None:
    """What ``--trust`` names; raises ConfigError for what is no trust file."""
    from tvm_flow.pack.trust import load_trust

    return None if arguments.trust is None else load_trust(arguments.trust)


def sign_options(parser: argparse.ArgumentParser) -> None:
    """Of ``sign``."""
    parser.add_argument("bundle", type=Path, nargs="?", help="bundle to sign, whole; signed again where it was before")
    text = "make a key: a private one in this file, which its owner alone can read, a public one in FILE.pub"
    parser.add_argument("--new-key", type=Path, metavar="FILE", help=text)
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key to sign with")
    parser.add_argument("--model", metavar="NAME", help="what it is a version of; readers may ask for it")
    text = "a number that grows with every release: readers refuse what is below the least that they accept"
    parser.add_argument("--version", type=at_least(0), metavar="N", help=text)
    parser.set_defaults(complain=parser.error)


def verify_options(parser: argparse.ArgumentParser) -> None:
    """Of ``verify``."""
    parser.add_argument("bundle", type=Path, help="bundle whose every file is checked; nothing of it runs")
    trust_option(parser, "refuse it unless it is signed so")


def install_options(parser: argparse.ArgumentParser) -> None:
    """Of ``install``."""
    parser.add_argument("bundle", type=Path, help="bundle to copy there")
    text = "where programs find it; what lies there stays until the new one gave its golden output on this machine"
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help=text)
    trust_option(parser, "refuse it unless it is signed so, of the model that lies there and no older")
    threads_option(parser)


def sign(arguments: argparse.Namespace) -> None:
    """Make a key, or sign a bundle."""
    given = arguments
    if given.new_key is not None:
        if given.bundle or given.key or given.model or given.version is not None:
            given.complain("--new-key: expected nothing else; sign with it after that: --key")
        from tvm_flow.pack.signing_keys import PUBLIC, new_key

        print(f"public key: {new_key(given.new_key)} ({given.new_key}{PUBLIC})")
        print(f"private key: {given.new_key}; keep it to yourself")
        return
    if given.bundle is None or given.key is None or given.model is None or given.version is None:
        given.complain("expected BUNDLE, --key FILE, --model NAME and --version N; or --new-key FILE")
    from tvm_flow.pack.signature import sign_bundle
    from tvm_flow.pack.signing_keys import load_key

    key = load_key(given.key)
    statement = sign_bundle(given.bundle, key, given.model, given.version)
    print(f"signed: {given.bundle} as {given.model}, version {given.version}, by {statement.key.hex()}")


def verify(arguments: argparse.Namespace) -> None:
    """Check every file of a bundle, and its signature."""
    from tvm_flow.pack import bundle_bytes, verify_bundle

    given = arguments
    signed = _signed(given.bundle, trust_given(given))
    manifest = verify_bundle(given.bundle)
    print(f"whole: {given.bundle} ({len(manifest.files) + 1} files, {bundle_bytes(given.bundle)} bytes)")
    print(signed)


def _signed(bundle: Path, trust: Trust | None) -> str:
    from tvm_flow.errors import NotSignedError
    from tvm_flow.pack.trust import trust_itself, verify_signature

    try:
        statement = verify_signature(bundle, trust_itself(bundle) if trust is None else trust)
    except NotSignedError:
        if trust is not None:
            raise
        return "not signed"
    says = f"signed: {statement.model}, version {statement.version}, by"
    if trust is None:
        return f"{says} {statement.key.hex()}; whether that key is trusted, --trust FILE tells"
    return f"{says} {trust.name_of(statement.key)} {statement.key.hex()}"


def install(arguments: argparse.Namespace) -> None:
    """Put a bundle in the place of another."""
    from tvm_flow.run.installing import install_bundle

    given = arguments
    install_bundle(given.bundle, given.into, trust_given(given), given.threads)
    print(f"installed: {given.into}; it gave its golden output here")
