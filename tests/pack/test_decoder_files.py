"""The decoder's files in a bundle: written with it, listed, and verified like the rest."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import toy_decoder
from support.manifests import change_manifest

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, Decoder, bundle_bytes, read_decoder, verify_bundle, write_bundle

FILES = {"decoder.bin", "decoder_weights.bin", "lib/toy/decoder.so"}


@pytest.fixture
def made(contents: Contents, tmp_path: Path) -> Contents:
    return toy_decoder.with_decoder(contents, toy_decoder.compile_decoder(tmp_path / "toy.so"))


@pytest.fixture
def bundle(made: Contents, tmp_path: Path) -> Path:
    write_bundle(tmp_path / "b", made)
    return tmp_path / "b"


class TestWrite:
    def test_what_was_packed_is_read_back(self, made: Contents, bundle: Path) -> None:
        manifest, found = verify_bundle(bundle), read_decoder(bundle)
        assert found is not None and made.decoder is not None
        assert set(manifest.files) >= FILES
        assert manifest.groups == ("group0", "group1"), "it is no step group"
        assert (found.latent_shape, found.chunk, found.frame_shape) == ((4, 2, 2, 2), 1, (2, 2, 2, 3))
        assert found.video_shape == (4, 2, 2, 3)
        assert found.golden_sha256 == made.decoder.golden_sha256
        assert (found.weights_bytes, found.library.path) == (12, "lib/toy/decoder.so")
        assert found.weights_sha256 == hashlib.sha256(made.decoder.weights).digest()

    def test_a_bundle_without_one_is_as_before(self, contents: Contents, bundle: Path, tmp_path: Path) -> None:
        write_bundle(tmp_path / "plain", contents)
        assert read_decoder(tmp_path / "plain") is None
        assert not FILES & set(verify_bundle(tmp_path / "plain").files)
        assert (tmp_path / "plain" / "steps.bin").read_bytes() == (bundle / "steps.bin").read_bytes()
        assert bundle_bytes(tmp_path / "plain") < bundle_bytes(bundle)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"chunk": 0},
            {"chunk": 3},
            {"frame_shape": (2, 2, 2, 4)},
            {"frame_shape": (0, 2, 2, 3)},
            {"golden_sha256": b""},
        ],
    )
    def test_contradictions_are_refused(self, made: Contents, tmp_path: Path, wrong: dict[str, Any]) -> None:
        assert made.decoder is not None
        with pytest.raises(BundleError, match=r"contents\.decoder: expected a chunk that divides"):
            write_bundle(tmp_path / "b", replace(made, decoder=replace(made.decoder, **wrong)))

    def test_an_absent_library(self, made: Contents, tmp_path: Path) -> None:
        assert made.decoder is not None
        with pytest.raises(BundleError, match="expected the library of group decoder"):
            write_bundle(tmp_path / "b", replace(made, decoder=replace(made.decoder, library=tmp_path / "absent.so")))


def relist(bundle: Path, name: str, data: bytes) -> None:
    """Write ``data`` and make the manifest agree."""
    (bundle / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(bundle, lambda values: values["files"].update({name: entry}))


class TestVerify:
    @pytest.mark.parametrize("name", sorted(FILES))
    def test_one_bit(self, bundle: Path, name: str) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 4
        (bundle / name).write_bytes(data)
        with pytest.raises(BundleError, match=f"{name}: expected sha256"):
            verify_bundle(bundle)

    @pytest.mark.parametrize("name", ["decoder_weights.bin", "lib/toy/decoder.so"])
    def test_files_of_another_bundle(self, bundle: Path, name: str) -> None:
        relist(bundle, name, (bundle / name).read_bytes() + b"more")
        with pytest.raises(BundleError, match=f"decoder.bin: {name}: expected the sha256 of the manifest"):
            verify_bundle(bundle)

    @pytest.mark.parametrize(
        ("at", "value", "message"),
        [
            (0, 0, "expected magic and size"),
            (8, 3, "expected schema 1 or 2, got 3; take a newer version"),
            (16, 5, "latents .4, 2, 2, 2., got"),
            (32, 0, "expected positive sizes"),
            (32, 3, "chunks that divide 2"),
            (48, 1, "3 colours"),
        ],
    )
    def test_forged_numbers(self, bundle: Path, at: int, value: int, message: str) -> None:
        data = bytearray((bundle / "decoder.bin").read_bytes()[:-32])
        struct.pack_into("<I", data, at, value)
        relist(bundle, "decoder.bin", bytes(data) + hashlib.sha256(data).digest())
        with pytest.raises(BundleError, match=message):
            verify_bundle(bundle)

    def test_a_digest_that_does_not_fit(self, bundle: Path) -> None:
        data = (bundle / "decoder.bin").read_bytes()
        for wrong in (data[:-1], data[:-1] + b"x", b""):
            relist(bundle, "decoder.bin", wrong)
            with pytest.raises(BundleError, match="end in their sha256"):
                verify_bundle(bundle)

    def test_the_library_must_be_of_this_machine(self, bundle: Path) -> None:
        with pytest.raises(BundleError, match="expected a library for riscv64"):
            verify_bundle(bundle, "riscv64")

    def test_a_decoder_of_nothing(self, contents: Contents, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"contents\.decoder"):
            replace(contents, decoder=Decoder(tmp_path, b"", 5, (1, 1, 1, 3), bytes(32))).check()
