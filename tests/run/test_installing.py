"""A bundle that is installed takes the old one's place at once, once proven; killed anywhere, one of them is whole."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.signed_bundles import KEY, MODEL, OTHER_KEY, VERSION, files_of, signed_later, signed_toy, trust_in

from tvm_flow import folders
from tvm_flow.artifact import exclusive
from tvm_flow.errors import (
    BadSignatureError,
    BundleError,
    ConfigError,
    NotSignedError,
    OlderVersionError,
    SignatureError,
)
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.pack.format import SIGNATURE
from tvm_flow.pack.signature import sign_bundle
from tvm_flow.run import installing
from tvm_flow.run.installing import install_bundle

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}
"""Python's audit events of what changes a folder; an open counts where it is for writing."""
FAR = 10_000


@pytest.fixture(scope="module")
def old(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 3; shared."""
    return signed_toy(tmp_path_factory.mktemp("old") / "b", contents)


@pytest.fixture(scope="module")
def new(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 4; shared."""
    return signed_later(tmp_path_factory.mktemp("new") / "b", contents)


@pytest.fixture
def target(old: Path, tmp_path: Path) -> Path:
    install_bundle(old, tmp_path / "field" / "model.bundle")
    return tmp_path / "field" / "model.bundle"


def left_beside(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {target.name}


@pytest.fixture(params=["exchange", "two renames"])
def renaming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a file system that exchanges names."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "exchange", lambda _one, _other: False)
    return str(request.param)


@pytest.mark.usefixtures("renaming")
def test_the_new_one_takes_the_old_ones_place(new: Path, target: Path) -> None:
    install_bundle(new, target, trust_in(KEY), threads=1)
    assert files_of(target) == files_of(new)
    assert left_beside(target) == set()


def test_modes_and_the_bundle_that_it_came_from_stay(new: Path, tmp_path: Path) -> None:
    shutil.copytree(new, tmp_path / "source")
    (tmp_path / "source" / "lib" / "toy" / "group0.so").chmod(0o750)
    before = files_of(tmp_path / "source")
    install_bundle(tmp_path / "source", tmp_path / "there")
    assert files_of(tmp_path / "source") == before
    assert (tmp_path / "there" / "lib" / "toy" / "group0.so").stat().st_mode & 0o777 == 0o750


def test_a_link_stays_one_and_what_it_names_is_replaced(new: Path, target: Path) -> None:
    link = target.with_name("current")
    link.symlink_to(target.name)
    install_bundle(new, link)
    assert link.is_symlink() and files_of(target) == files_of(new)


class TestRefused:
    """The old one stays, and nothing else does."""

    def refused(self, kind: type[Exception], source: Path, target: Path, **options: object) -> str:
        before = files_of(target)
        with pytest.raises(kind) as refused:
            install_bundle(source, target, **options)  # type: ignore[arg-type]
        assert files_of(target) == before and left_beside(target) == set()
        return str(refused.value)

    def test_an_older_version_than_what_lies_there(self, old: Path, new: Path, target: Path) -> None:
        install_bundle(new, target)
        said = self.refused(OlderVersionError, old, target, trust=trust_in(KEY))
        assert "expected version 4 of sneakers or later, got 3" in said

    def test_one_of_another_model(self, contents: Contents, tmp_path: Path, target: Path) -> None:
        write_bundle(tmp_path / "b", contents)
        sign_bundle(tmp_path / "b", KEY, "shoes", VERSION + 1)
        said = self.refused(BadSignatureError, tmp_path / "b", target, trust=trust_in(KEY))
        assert "expected a model among ['sneakers'], got one signed as shoes" in said

    def test_one_that_nobody_signed(self, bundle_dir: Path, target: Path) -> None:
        self.refused(NotSignedError, bundle_dir, target, trust=trust_in(KEY))

    def test_one_that_is_damaged(self, new: Path, tmp_path: Path, target: Path) -> None:
        shutil.copytree(new, tmp_path / "b")
        (tmp_path / "b" / "weights.bin").write_bytes(bytes(512))
        assert "weights.bin: expected sha256" in self.refused(BundleError, tmp_path / "b", target)

    def test_one_that_is_longer_than_it_says(self, new: Path, tmp_path: Path, target: Path) -> None:
        shutil.copytree(new, tmp_path / "b")
        os.truncate(tmp_path / "b" / "weights.bin", 10 << 30)
        assert "weights.bin: expected 512 bytes, got 10737418240" in self.refused(BundleError, tmp_path / "b", target)

    def test_one_that_computes_something_else_here(self, contents: Contents, tmp_path: Path, target: Path) -> None:
        golden = replace(contents.golden, latents=contents.golden.latents + np.float32(1))
        write_bundle(tmp_path / "b", replace(contents, golden=golden))
        assert "latents differ" in self.refused(BundleError, tmp_path / "b", target)

    def test_a_bundle_into_itself(self, target: Path) -> None:
        assert "expected another place" in self.refused(ConfigError, target, target)

    def test_a_folder_with_other_things(self, new: Path, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "one.jpg").write_bytes(b"1")
        self.refused(BundleError, new, tmp_path / "photos")

    def test_what_is_no_bundle(self, tmp_path: Path, target: Path) -> None:
        (tmp_path / "nothing").mkdir()
        self.refused(BundleError, tmp_path / "nothing", target)

    def test_what_lies_there_without_a_known_key_is_replaced(self, new: Path, target: Path) -> None:
        """A new owner's key: the old one's word on versions is not asked for."""
        sign_bundle(target, OTHER_KEY, MODEL, VERSION + 9)
        install_bundle(new, target, trust_in(KEY))
        assert files_of(target) == files_of(new)


def die_before(change: int) -> None:
    """SIGKILL, by itself, before the so manyth change of a folder or file, which the process counts from here."""
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if event in CHANGES and writes:
            seen += 1
            if seen == change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def killed(change: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a child that dies before its ``change``-th change; False when it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            die_before(change)
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, f"change {change}"
    return os.WIFSIGNALED(status)


def recover(target: Path) -> None:
    """What the next run begins with."""
    with exclusive(target):
        pass


def test_killed_before_any_change_the_old_or_the_new_one_is_whole(
    old: Path, new: Path, target: Path, renaming: str
) -> None:
    trust, ends = trust_in(KEY), {"old": files_of(old), "new": files_of(new)}
    found = []
    for change in range(1, FAR):
        if not killed(change, lambda: install_bundle(new, target, trust, threads=1)):
            break
        if renaming == "exchange":
            assert files_of(target) in ends.values(), f"change {change}"
        else:  # nothing may lie there for a moment; the next run puts the old one back
            recover(target)
            assert left_beside(target) == set()
        found.append(next(name for name, files in ends.items() if files == files_of(target)))
        if found[-1] == "new":
            recover(target)
            assert left_beside(target) == set() and files_of(target) == ends["new"]
            shutil.rmtree(target)
            shutil.copytree(old, target)
    assert files_of(target) == ends["new"] and left_beside(target) == set()
    assert found == sorted(found, reverse=True), "after the exchange it never is the old one again"
    assert set(found) == {"old", "new"} and len(found) > 20


def test_killed_at_the_first_installation_nothing_or_the_new_one_is_there(new: Path, tmp_path: Path) -> None:
    target = tmp_path / "field" / "b"
    for change in (1, 2, 5, 12):
        assert killed(change, lambda: install_bundle(new, target, threads=1))
        assert not target.exists()
    install_bundle(new, target, threads=1)
    assert files_of(target) == files_of(new) and left_beside(target) == set()


def test_what_an_open_handle_maps_outlives_an_installation(new: Path, target: Path, contents: Contents) -> None:
    from tvm_flow.run import Bundle

    with Bundle.open(target, threads=1) as bundle:
        install_bundle(new, target, threads=1)
        golden = contents.golden
        assert np.array_equal(bundle.generate(golden.noise, golden.cond, golden.uncond), golden.latents)


def test_a_signature_that_is_taken_away_on_the_way_is_missed(
    new: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = installing._copy

    def without(source: Path, made: Path) -> None:
        copy(source, made)
        (made / SIGNATURE).unlink()

    monkeypatch.setattr(installing, "_copy", without)
    with pytest.raises(SignatureError):
        install_bundle(new, target, trust_in(KEY))
