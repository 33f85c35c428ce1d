"""verify_bundle finds every kind of damage and says which file, what was expected, and what was found."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.manifests import change_manifest

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, bundle_bytes, verify_bundle, write_bundle
from tvm_flow.pack.manifest import read_manifest


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle_dir, tmp_path / "b")
    return tmp_path / "b"


def relist(bundle: Path, name: str) -> None:
    """Make the manifest agree with a changed file, as an attacker would."""
    data = (bundle / name).read_bytes()
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(bundle, lambda value: value["files"].__setitem__(name, entry))


def resign(bundle: Path, change: Callable[[bytearray], object]) -> None:
    """Change steps.bin and make its digest and the manifest agree."""
    data = bytearray((bundle / "steps.bin").read_bytes()[:-32])
    change(data)
    (bundle / "steps.bin").write_bytes(data + hashlib.sha256(data).digest())
    relist(bundle, "steps.bin")


def test_a_good_bundle_passes(copy: Path) -> None:
    verify_bundle(copy)
    verify_bundle(copy, platform.machine())


FILES = ["golden.bin", "lib/toy/group0.so", "lib/toy/group1.so", "steps.bin", "weights.bin"]


@pytest.mark.parametrize("name", FILES)
def test_one_bit(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 4
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: expected sha256 .*, got .*; copy the bundle again"):
        verify_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_truncated(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(BundleError, match=rf"{name}: expected {len(data)} bytes, got {len(data) - 1}"):
        verify_bundle(copy)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_missing(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        verify_bundle(copy)


def test_unlisted(copy: Path) -> None:
    (copy / "lib/toy/extra.so").write_bytes(b"")
    with pytest.raises(BundleError, match=r"expected only listed files, got \['lib/toy/extra.so'\]"):
        verify_bundle(copy)


def test_links_are_not_followed(copy: Path, tmp_path: Path) -> None:
    (copy / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (copy / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(BundleError, match=r"weights.bin: expected a regular file"):
        verify_bundle(copy)


def test_a_fifo_does_not_block(copy: Path) -> None:
    (copy / "golden.bin").unlink()
    os.mkfifo(copy / "golden.bin")
    with pytest.raises(BundleError, match=r"golden.bin: expected a regular file"):
        verify_bundle(copy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": 1}',
        '{"schema": "2"}',
        '{"schema": true}',
        "[" * 100_000,
        "\0",
        '{"schema": 2}',
    ],
    ids=range(10),
)
def test_manifest_of_another_kind(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        verify_bundle(copy)


@pytest.mark.parametrize("name", ["version", "steps", "groups", "files", "target", "sampler", "provenance"])
@pytest.mark.parametrize("value", [None, 1.5, "text", True, [1]])
def test_manifest_fields_are_typed(copy: Path, name: str, value: object) -> None:
    if (name, value) in (("version", "text"), ("groups", [1])):
        value = {}
    change_manifest(copy, lambda manifest: manifest.__setitem__(name, value))
    with pytest.raises(BundleError, match=f"{name}: expected"):
        verify_bundle(copy)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a//b", "./a", "", "a\\b", "a\0b", "lib/"])
def test_unsafe_paths(copy: Path, path: str) -> None:
    change_manifest(copy, lambda value: value["files"].__setitem__(path, value["files"]["steps.bin"]))
    with pytest.raises(BundleError, match="expected a relative path inside the bundle"):
        verify_bundle(copy)
    with pytest.raises(BundleError, match="expected a relative path inside the bundle"):
        bundle_bytes(copy)


@pytest.mark.parametrize(
    "entry", [None, 3, {}, {"bytes": "1", "sha256": "x"}, {"bytes": 1}, {"bytes": True, "sha256": ""}]
)
def test_odd_entries(copy: Path, entry: object) -> None:
    change_manifest(copy, lambda value: value["files"].__setitem__("weights.bin", entry))
    with pytest.raises(BundleError, match=r"'weights\.bin': expected bytes and sha256"):
        verify_bundle(copy)


def test_an_entry_that_is_left_out(copy: Path) -> None:
    (copy / "golden.bin").unlink()
    change_manifest(copy, lambda value: value["files"].pop("golden.bin"))
    with pytest.raises(BundleError, match=r"expected entries for \['golden.bin'\]"):
        verify_bundle(copy)


def test_manifest_and_index_must_agree(copy: Path) -> None:
    change_manifest(copy, lambda value: value.__setitem__("steps", 5))
    with pytest.raises(BundleError, match="expected 5 steps and 2 groups as in the manifest, got 4 and 2"):
        verify_bundle(copy)


def test_manifest_and_index_must_name_one_sampler(copy: Path, contents: Contents) -> None:
    change_manifest(copy, lambda value: value["sampler"].__setitem__("name", "ddim"))
    with pytest.raises(BundleError, match=r'expected the sampler .*"ddim".* of the manifest, got .*"rflow".*pack'):
        verify_bundle(copy)
    change_manifest(copy, lambda value: value.__setitem__("sampler", dict(contents.sampler)))
    verify_bundle(copy)
    resign(copy, lambda data: struct.pack_into("4s", data, 192, b"[[[["))
    with pytest.raises(BundleError, match=r"expected the sampler .* of the manifest, got \[\[\[\["):
        verify_bundle(copy)


@pytest.mark.parametrize("name", ["weights.bin", "golden.bin", "lib/toy/group1.so"])
def test_a_swapped_file_disagrees_with_the_index(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    relist(copy, name)
    with pytest.raises(BundleError, match=rf"steps.bin: {name}: expected the size and sha256 of the manifest"):
        verify_bundle(copy)


HEADER_CHANGES: dict[str, tuple[str, int, Any, str]] = {
    "magic": ("8s", 0, b"OTHERONE", "expected a file that starts with"),
    "schema": ("I", 8, 9, "expected schema 2 or 3, got 9; take a newer version"),
    "header bytes": ("I", 12, 191, "expected the size and sha256"),
    "file bytes": ("Q", 16, 10, "expected the size and sha256"),
    "no steps": ("I", 24, 0, "expected"),
    "many steps": ("I", 24, 1 << 31, "expected"),
    "branches": ("I", 28, 3, "1 or 2 branches"),
    "groups": ("I", 32, 1 << 30, "section groups"),
    "step floats": ("I", 36, 1 << 30, "section records"),
    "guided": ("I", 40, 5, "at most 4 guided channels"),
    "outputs": ("I", 44, 5, "expected 4 or 8 output channels and no negative sigma, got 5"),
    "no outputs": ("I", 44, 0, "expected 4 or 8 output channels"),
    "cfg nan": ("d", 176, float("nan"), "cfg scale: expected 0 to 100, got nan"),
    "cfg inf": ("d", 176, float("inf"), "cfg scale"),
    "cfg huge": ("d", 176, 1e9, "cfg scale"),
    "cfg negative": ("d", 176, -1.0, "cfg scale"),
    "latent ndim": ("I", 48, 9, "1 to 8 latent sizes"),
    "sampler bytes": ("I", 60, 1 << 31, "section sampler"),
    "hidden size": ("I", 64 + 4 * 7, 2, "1 to 8 latent sizes"),
    "values": ("Q", 96, 1 << 60, "section values"),
    "weights bytes": ("Q", 104, 5, "weights.bin: expected the size and sha256"),
}


@pytest.mark.parametrize("which", HEADER_CHANGES)
def test_lying_headers(copy: Path, which: str) -> None:
    code, offset, value, message = HEADER_CHANGES[which]
    resign(copy, lambda data: struct.pack_into(f"<{code}", data, offset, value))
    with pytest.raises(BundleError, match=message):
        verify_bundle(copy)


@pytest.mark.parametrize("section", ["t", "updates", "records", "values"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_must_be_finite(copy: Path, contents: Contents, section: str, bad: float) -> None:
    starts = section_starts(len(json.dumps(contents.sampler, sort_keys=True)))
    code, size = ("<d", 8) if section == "updates" else ("<f", 4)
    resign(copy, lambda data: struct.pack_into(code, data, starts[section] + size, bad))
    with pytest.raises(BundleError, match="expected finite numbers, got one that is not"):
        verify_bundle(copy)


def test_a_negative_sigma(copy: Path, contents: Contents) -> None:
    start = section_starts(len(json.dumps(contents.sampler, sort_keys=True)))["updates"]
    resign(copy, lambda data: struct.pack_into("<d", data, start + 40 + 16, -0.5))
    with pytest.raises(BundleError, match=r"no negative sigma, got 4 and -0\.5"):
        verify_bundle(copy)


def section_starts(sampler_bytes: int) -> dict[str, int]:
    sizes = {"sampler": sampler_bytes, "groups": 2 * 192, "t": 16, "updates": 160, "records": 4 * 4 * 34}
    starts, at = {}, 192
    for name, size in {**sizes, "variants": 8 * 16, "values": 0}.items():
        starts[name] = at
        at += -(-size // 64) * 64
    return starts


def test_a_path_in_the_index_must_stay_inside(copy: Path, contents: Contents) -> None:
    start = section_starts(len(json.dumps(contents.sampler, sort_keys=True)))["groups"]
    path = b"../../../tmp/evil.so"
    resign(copy, lambda data: struct.pack_into("152s", data, start + 40, path))
    with pytest.raises(BundleError, match="expected a path inside the bundle; do not use it"):
        verify_bundle(copy)


def test_libraries_must_be_elf_of_this_machine(contents: Contents, tmp_path: Path) -> None:
    elf = contents.groups[0].library.read_bytes()
    other = tmp_path / "other.so"
    other.write_bytes(elf[:18] + struct.pack("<H", 183) + elf[20:])
    bundle = tmp_path / "b"
    write_bundle(bundle, replace(contents, groups=[replace(contents.groups[0], library=other), contents.groups[1]]))
    verify_bundle(bundle)
    with pytest.raises(BundleError, match="expected a library for x86_64, got one for aarch64; compile for this"):
        verify_bundle(bundle, "x86_64")
    with pytest.raises(BundleError, match="expected a library for riscv64, got one for"):
        verify_bundle(bundle, "riscv64")
    other.write_bytes(b"not a library")
    write_bundle(bundle, replace(contents, groups=[replace(contents.groups[0], library=other), contents.groups[1]]))
    with pytest.raises(BundleError, match="expected an ELF library"):
        verify_bundle(bundle)


def test_every_flipped_bit_of_the_manifest_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    text = path.read_bytes()
    for at in range(len(text)):
        for bit in range(8):
            path.write_bytes(text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :])
            with pytest.raises(BundleError, match=r"manifest\.json: "):
                read_manifest(copy)
    path.write_bytes(text)
    verify_bundle(copy)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"checked": true', b'"checked": false,\n "checked": true'),
        (b'"provenance": {', b'"provenance": {"seconds": Infinity, '),
        (b"\n", b"\r\n"),
        (b'"version"', b'"v\\u0065rsion"'),
    ],
    ids=["twice", "Infinity", "line ends", "escaped"],
)
def test_what_parses_alike_is_not_alike(copy: Path, old: bytes, new: bytes) -> None:
    path = copy / "manifest.json"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(BundleError, match="expected the text that its sha256 is of"):
        verify_bundle(copy)
