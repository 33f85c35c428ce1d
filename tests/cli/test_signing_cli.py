"""Sign, verify, install as a person meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.signed_bundles import files_of

from tvm_flow.cli import main


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
    assert older == f"tvm-flow: signature.bin: {why}\n"


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
