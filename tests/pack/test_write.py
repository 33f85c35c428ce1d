"""A bundle is written whole or not at all, and refuses contents that contradict themselves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.manifests import change_manifest

from tvm_flow import folders as replacing
from tvm_flow.errors import BundleError
from tvm_flow.pack import (
    Contents,
    Group,
    Prompt,
    Variant,
    bundle_bytes,
    read_manifest,
    verify_bundle,
    write,
    write_bundle,
)
from tvm_flow.pack.format import HEADER, MAGIC
from tvm_flow.pack.index import read_index


def listing(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_files_and_manifest(bundle_dir: Path, contents: Contents, libraries: tuple[Path, Path]) -> None:
    files = listing(bundle_dir)
    names = {"golden.bin", "lib/toy/group0.so", "lib/toy/group1.so", "steps.bin", "weights.bin"}
    assert set(files) == names | {"manifest.json"}
    assert files["weights.bin"] == contents.weights
    assert files["lib/toy/group1.so"] == libraries[1].read_bytes()
    manifest = verify_bundle(bundle_dir)
    assert manifest == read_manifest(bundle_dir)
    assert (manifest.steps, manifest.groups) == (4, ("group0", "group1"))
    assert (manifest.sampler, manifest.target, manifest.provenance) == (
        *(contents.sampler, contents.target, contents.provenance),
    )
    for name in names:
        entry = manifest.files[name]
        assert entry.bytes == len(files[name]) and entry.sha256 == hashlib.sha256(files[name]).hexdigest()
    assert bundle_bytes(bundle_dir) == sum(map(len, files.values()))


def test_index_reads_back(bundle_dir: Path, contents: Contents) -> None:
    data = (bundle_dir / "steps.bin").read_bytes()
    assert data[:8] == MAGIC and HEADER.size == 192
    assert data[-32:] == hashlib.sha256(data[:-32]).digest()
    index = read_index(bundle_dir / "steps.bin")
    assert (index.steps, index.branches, index.guided_channels) == (4, 2, 3)
    assert index.latent_shape == contents.latent_shape and json.loads(index.sampler) == contents.sampler
    np.testing.assert_array_equal(index.timesteps, np.float32(contents.timesteps))
    np.testing.assert_array_equal(index.updates, contents.updates)
    assert index.output_channels == contents.output_channels
    np.testing.assert_array_equal(index.step_records, contents.step_records)
    assert [library.path for library in index.libraries] == ["lib/toy/group0.so", "lib/toy/group1.so"]
    variants = [variant for branches in contents.variants for variant in branches]
    assert len(index.variants) == len(variants)
    for (group, first), variant in zip(index.variants, variants, strict=True):
        assert group == variant.group
        np.testing.assert_array_equal(index.values[first : first + variant.values.size], variant.values)


def test_equal_values_of_variants_are_kept_once(tmp_path: Path, contents: Contents) -> None:
    """As where one set of tables serves all steps of a branch."""
    same = [
        [row[branch] if row[0].group else contents.variants[0][branch] for branch in (0, 1)]
        for row in contents.variants
    ]
    sizes = []
    for name, variants in (("each", contents.variants), ("shared", same)):
        write_bundle(tmp_path / name, replace(contents, variants=variants))
        index = read_index(tmp_path / name / "steps.bin")
        sizes.append(index.values.size)
        for (_, first), variant in zip(index.variants, [v for row in variants for v in row], strict=True):
            np.testing.assert_array_equal(index.values[first : first + variant.values.size], variant.values)
        verify_bundle(tmp_path / name)
    assert sizes[1] < sizes[0]


def test_golden_layout(bundle_dir: Path, contents: Contents) -> None:
    values = np.fromfile(bundle_dir / "golden.bin", np.float32)
    golden = contents.golden
    parts = [golden.noise, golden.cond.tokens, golden.cond.mask, golden.uncond.tokens, golden.uncond.mask]
    expected = np.concatenate([part.ravel() for part in [*parts, golden.latents]])
    np.testing.assert_array_equal(values, expected)


def test_writing_twice_gives_the_same_bytes(bundle_dir: Path, contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    assert listing(tmp_path / "b") == listing(bundle_dir)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_older_bundle_is_replaced_whole(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(replacing, "exchange", lambda _one, _other: False)
    write_bundle(tmp_path / "b", replace(contents, target={"name": "older"}))
    assert (tmp_path / "b/lib/older").is_dir()
    write_bundle(tmp_path / "b", contents)
    assert verify_bundle(tmp_path / "b").target == contents.target
    assert not (tmp_path / "b/lib/older").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moment", ["encode_index", "write_bytes", "_copy_libraries"])
def test_an_interrupted_write_leaves_the_old_bundle(
    bundle_dir: Path,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exception: type[BaseException],
    moment: str,
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise exception

    shutil.copytree(bundle_dir, tmp_path / "b")
    before = listing(tmp_path / "b")
    monkeypatch.setattr(write, moment, interrupted)
    with pytest.raises(exception):
        write_bundle(tmp_path / "b", replace(contents, weights=b"\1" * 512))
    assert listing(tmp_path / "b") == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_interrupt_between_the_two_renames_restores_the_old_bundle(
    bundle_dir: Path, contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle_dir, tmp_path / "b")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp") and target.name == "b":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(replacing, "exchange", lambda _one, _other: False)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "b", replace(contents, weights=b"\1" * 512))
    assert (tmp_path / "b/weights.bin").read_bytes() == contents.weights
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_other_folders_are_not_replaced(contents: Contents, tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    write_bundle(precious, contents)  # an empty folder may be filled
    shutil.rmtree(precious)
    precious.mkdir()
    (precious / "one.jpg").write_text("a photo")
    with pytest.raises(BundleError, match="an empty folder or a bundle to replace, got a folder with other files"):
        write_bundle(precious, contents)
    assert (precious / "one.jpg").read_text() == "a photo"
    (tmp_path / "file").write_text("text")
    with pytest.raises(BundleError, match="choose another path"):
        write_bundle(tmp_path / "file", contents)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.frombuffer])
def test_weights_may_be_any_buffer(
    contents: Contents, tmp_path: Path, kind: Callable[[Any], Any], bundle_dir: Path
) -> None:
    if kind is np.frombuffer:
        weights = memoryview(np.frombuffer(contents.weights, np.float32))
    else:
        weights = kind(contents.weights)
    write_bundle(tmp_path / "b", replace(contents, weights=weights))
    assert listing(tmp_path / "b") == listing(bundle_dir)


def change_variant(contents: Contents, group: int, floats: int) -> Contents:
    variants = [list(branches) for branches in contents.variants]
    variants[2][1] = Variant(group, np.zeros(floats, np.float32))
    return replace(contents, variants=variants)


def not_finite(contents: Contents) -> Contents:
    records = contents.step_records.copy()
    records[1, 3] = np.nan
    return replace(contents, step_records=records)


def change_update(contents: Contents, column: int, value: float) -> Contents:
    updates = contents.updates.copy()
    updates[1, column] = value
    return replace(contents, updates=updates)


CONTRADICTIONS: dict[str, tuple[Callable[[Contents], Contents], str]] = {
    "updates": (lambda c: replace(c, updates=c.updates[1:]), r"updates: expected float64 \(4, 5\), got float64 \(3, 5"),
    "single": (lambda c: replace(c, updates=c.updates.astype(np.float32)), "updates: expected float64"),
    "endless": (lambda c: change_update(c, 4, np.inf), "updates: expected finite numbers, got inf at 9"),
    "sigma": (lambda c: change_update(c, 2, -1.0), "updates: expected no negative sigma"),
    "cfg": (lambda c: replace(c, cfg_scale=float("nan")), "cfg_scale: expected 0 to 100, got nan; check the sampler"),
    "outputs": (lambda c: replace(c, output_channels=5), "output_channels: expected 4 or 8 for the latent"),
    "variants": (lambda c: replace(c, variants=c.variants[1:]), "variants: expected 4 entries, got 3"),
    "branches": (
        lambda c: replace(c, variants=[c.variants[0][:1], *c.variants[1:]]),
        r"variants\[1\]: expected 1 entries, got 2",
    ),
    "none": (lambda c: replace(c, timesteps=[], variants=[]), "expected 1 to 65536 steps"),
    "length": (lambda c: change_variant(c, 1, 5), r"variants\[2\]\[1\].values: expected float32 \(7,\)"),
    "group": (lambda c: change_variant(c, 2, 5), r"variants\[2\]\[1\].group: expected 0 to 1, got 2"),
    "records": (
        lambda c: replace(c, step_records=c.step_records.astype(np.float64)),  # type: ignore[arg-type]
        r"step_records: expected float32 \(4, 34\), got float64",
    ),
    "flat": (lambda c: replace(c, step_records=c.step_records[0]), "step_records: expected 2 axes"),
    "nan": (not_finite, "step_records: expected finite numbers, got nan at 37; quantize again"),
    "guided": (lambda c: replace(c, guided_channels=5), "guided_channels: expected 0 to the channels"),
    "noise": (
        lambda c: replace(c, golden=replace(c.golden, noise=c.golden.noise[:3])),
        "latent values: expected 32 entries, got 24",
    ),
    "mask": (
        lambda c: replace(c, golden=replace(c.golden, cond=Prompt(c.golden.cond.tokens, c.golden.noise))),
        r"golden.cond.mask: expected float32 \(3,\)",
    ),
    "library": (
        lambda c: replace(c, groups=[Group("group0", Path("/nowhere.so"), 5), c.groups[1]]),
        "/nowhere.so: expected the library of group group0; build it first",
    ),
    "twice": (
        lambda c: replace(c, groups=[c.groups[0], replace(c.groups[1], name="group0")]),
        "group group0: expected names to differ, got it twice",
    ),
    "outside": (
        lambda c: replace(c, groups=[replace(c.groups[0], name="../../x"), c.groups[1]]),
        "expected plain names for target",
    ),
    "target": (lambda c: replace(c, target={"name": ".."}), "expected plain names for target"),
    "unnamed": (lambda c: replace(c, target={}), "expected plain names for target"),
    "long": (
        lambda c: replace(c, groups=[replace(c.groups[0], name="n" * 160), c.groups[1]]),
        "a path of at most 151 bytes",
    ),
}


@pytest.mark.parametrize("which", CONTRADICTIONS)
def test_contradictions_are_named(contents: Contents, tmp_path: Path, which: str) -> None:
    change, message = CONTRADICTIONS[which]
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "b", change(contents))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [-1, 5])
def test_golden_steps_beyond_the_steps_are_refused(tmp_path: Path, contents: Contents, steps: int) -> None:
    with pytest.raises(BundleError, match=rf"golden.steps: expected 0 \(all\) to {contents.steps}, got {steps}"):
        write_bundle(tmp_path / "b", replace(contents, golden=replace(contents.golden, steps=steps)))


def test_weights_in_a_file_are_not_written_again(tmp_path: Path, contents: Contents) -> None:
    """They get another name; a bundle replaced later leaves the file as it is."""
    assert isinstance(contents.weights, bytes)
    file = tmp_path / "weights"
    file.write_bytes(contents.weights)
    write_bundle(tmp_path / "a", contents)
    write_bundle(tmp_path / "b", replace(contents, weights=file))
    assert (tmp_path / "b/weights.bin").samefile(file)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").glob("*.bin")} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").glob("*.bin")
    }
    write_bundle(tmp_path / "b", contents)
    assert file.read_bytes() == contents.weights and not (tmp_path / "b/weights.bin").samefile(file)


def test_weights_are_copied_where_no_link_can_be_made(
    tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    assert isinstance(contents.weights, bytes)
    (tmp_path / "weights").write_bytes(contents.weights)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_bundle(tmp_path / "b", replace(contents, weights=tmp_path / "weights"))
    assert (tmp_path / "b/weights.bin").read_bytes() == contents.weights


class TestStatic:
    """Files that a program is linked with."""

    def test_they_are_copied_listed_and_verified(self, contents: Contents, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"archive")
        write_bundle(
            tmp_path / "b", replace(contents, static={"lib/toy/x.a": tmp_path / "a", "include/x.h": tmp_path / "a"})
        )
        manifest = verify_bundle(tmp_path / "b")
        assert manifest.static == ("lib/toy/x.a", "include/x.h")
        assert manifest.files["lib/toy/x.a"].bytes == 7
        assert (tmp_path / "b" / "include" / "x.h").read_bytes() == b"archive"

    def test_a_bundle_without_them_says_so(self, bundle_dir: Path) -> None:
        assert read_manifest(bundle_dir).static == ()
        assert json.loads((bundle_dir / "manifest.json").read_text())["static"] == []

    def test_a_manifest_of_before_is_read(self, bundle_dir: Path, tmp_path: Path) -> None:
        shutil.copytree(bundle_dir, tmp_path / "b")
        change_manifest(tmp_path / "b", lambda values: values.pop("static"))
        assert verify_bundle(tmp_path / "b").static == ()

    @pytest.mark.parametrize("path", ["../x.a", "/x.a", "", "lib/toy/group0.so"])
    def test_paths_are_their_own_and_inside(self, contents: Contents, tmp_path: Path, path: str) -> None:
        (tmp_path / "a").write_bytes(b"archive")
        with pytest.raises(BundleError, match="expected a path of its own inside the bundle"):
            write_bundle(tmp_path / "b", replace(contents, static={path: tmp_path / "a"}))
        assert not (tmp_path / "b").exists()

    def test_an_absent_file_is_named(self, contents: Contents, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"nowhere: expected the file for lib/x\.a; build it first"):
            write_bundle(tmp_path / "b", replace(contents, static={"lib/x.a": tmp_path / "nowhere"}))


def test_a_link_to_a_bundle_stays_one(contents: Contents, tmp_path: Path) -> None:
    """Its folder is replaced on its own file system, whole."""
    link, real = tmp_path / "latest", tmp_path / "store" / "b1"
    link.symlink_to(real)
    for _ in range(2):
        write_bundle(link, contents)
        assert link.is_symlink() and (real / "manifest.json").is_file()
    assert [path.name for path in real.parent.iterdir()] == ["b1"]
