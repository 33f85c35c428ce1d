"""Sign, verify, install as a person meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.signed_bundles import files_of

from tvm_flow.cli import main
from tvm_flow.cli.parser import make_parser


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return err if code else out


def test_from_a_key_to_an_installed_bundle(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, key, trust, field = (tmp_path / name for name in ("b", "release.key", "trust.yaml", "field"))
    shutil.copytree(bundle_dir, bundle)
    public = said(capsys, "sign", "--new-key", key).split()[2]
    assert said(capsys, "verify", bundle).splitlines()[1] == "not signed"
    assert "expected a signature, got none" in said(
        capsys, "verify", bundle, "--trust", write_trust(trust, public, 2), code=2
    )
    expected = f"signed: {bundle} as toy, version 2, by {public}\n"
    assert said(capsys, "sign", bundle, "--key", key, "--model", "toy", "--version", 2) == expected
    assert f"version 2, by {public}; whether that key is trusted" in said(capsys, "verify", bundle)
    lines = said(capsys, "verify", bundle, "--trust", trust).splitlines()
    assert lines[0].startswith(f"whole: {bundle} (6 files, ")
    assert lines[1] == f"signed: toy, version 2, by release {public}"
    assert str(field) in said(capsys, "install", bundle, "--into", field, "--trust", trust, "--threads", 1)
    assert files_of(field) == files_of(bundle)
    write_trust(trust, public, 3)
    older = said(capsys, "install", bundle, "--into", field, "--trust", trust, code=2)
    why = "expected version 3 of toy or later, got 2; install a newer bundle [wrong version]"
    assert older == f"tvm-flow: {bundle}: signature.bin: {why}\n"
    assert said(capsys, "run", "red", "--bundle", bundle, "--trust", trust, code=2) == older
    assert "Is a directory" in (folder := said(capsys, "verify", bundle, "--trust", tmp_path, code=2))
    assert str(tmp_path) in folder


@pytest.mark.parametrize("command", ["profile", "inspect"])
def test_a_bundle_is_opened_only_where_it_is_signed_as_asked(
    command: str, bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, trust = tmp_path / "b", tmp_path / "trust.yaml"
    shutil.copytree(bundle_dir, bundle)
    public = said(capsys, "sign", "--new-key", tmp_path / "key").split()[2]
    words = [command, bundle, "--trust", write_trust(trust, public, 2)]
    assert "signature.bin: expected a signature, got none" in said(capsys, *words, code=2)
    said(capsys, "sign", bundle, "--key", tmp_path / "key", "--model", "toy", "--version", 2)
    assert said(capsys, *words)
    write_trust(trust, public, 3)
    assert "expected version 3 of toy or later, got 2" in said(capsys, *words, code=2)


@pytest.mark.parametrize("words", [["run", "red"], ["compare", "red"], ["profile", "b"], ["inspect", "b"]])
def test_every_command_that_opens_a_bundle_takes_whom_to_trust(words: list[str]) -> None:
    assert make_parser().parse_args([*words, "--trust", "trust.yaml"]).trust == Path("trust.yaml")


def test_trust_is_asked_of_bundles_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its manifest a bundle would pass for a checkpoint."""
    trust = write_trust(tmp_path / "trust.yaml", "11" * 32, 0)
    line = said(capsys, "inspect", tmp_path, "--trust", trust, code=2)
    assert "expected a bundle to trust, got no manifest.json; leave out --trust" in line


def write_trust(path: Path, public: str, least: int) -> Path:
    path.write_text(f"keys:\n  release: {public}\nmodels:\n  toy: {least}\n")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["sign", "b", "--key", "absent", "--model", "m", "--version", "1"],
        ["sign", "--new-key", "no/folder/key"],
        ["verify", "absent"],
        ["verify", "b", "--trust", "absent"],
        ["profile", "b", "--trust", "absent"],
        ["inspect", "absent", "--trust", "absent"],
        ["compare", "red", "--bundle", "b", "--trust", "absent"],
        ["install", "absent", "--into", "field"],
        ["install", "b", "--into", "file"],
    ],
)
def test_mistakes_are_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "file").write_text("mine")
    line = said(capsys, *words, code=2)
    assert line.count("\n") == 1 and line.startswith("tvm-flow: ") and "expected" in line
    assert files_of(tmp_path).keys() == {"file"}
