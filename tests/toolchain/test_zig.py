"""One place runs the C compiler: its words reach the user, and what failed leaves nothing."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tvm_flow.errors import BuildError
from tvm_flow.sources import package_modules
from tvm_flow.toolchain import versions, zig
from tvm_flow.toolchain.versions import compiler_versions, zig_version
from tvm_flow.toolchain.zig import MOST_WORDS, archive, zig_cc

TRIPLE = "x86_64-linux-musl"


def compiled(source: str, output: Path) -> None:
    arguments = ("-c", "-x", "c", "-", "-o", str(output))
    zig_cc(arguments, output.name, TRIPLE, "name another target", source)


def test_c_becomes_an_object_and_an_archive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "tvm_flow.toolchain.zig"):
        compiled("int f(void) { return 1; }", tmp_path / "f.o")
    assert (tmp_path / "f.o").read_bytes()[:4] == b"\x7fELF"
    assert f"cc -target {TRIPLE} -c -x c - -o" in caplog.text, "the command line can be repeated"
    for name in ("a.a", "b.a"):
        archive(tmp_path / name, tmp_path / "f.o")
    assert (tmp_path / "a.a").read_bytes() == (tmp_path / "b.a").read_bytes()
    assert (tmp_path / "a.a").read_bytes().startswith(b"!<arch>\n")


def test_a_failure_says_what_for_which_triple_why_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        compiled("int f(void) { return undeclared; }", tmp_path / "f.o")
    message = str(caught.value)
    assert message.startswith(f"f.o: expected zig cc to make it for {TRIPLE}, got exit code 1: ")
    assert "use of undeclared identifier 'undeclared'" in message
    assert message.endswith("; name another target")
    assert list(tmp_path.iterdir()) == []


def test_the_first_words_stand_in_the_message_and_all_are_kept(tmp_path: Path) -> None:
    """The first error is the cause of those that follow."""
    with pytest.raises(BuildError) as caught:
        compiled("".join(f"int f{i}(void) {{ return undeclared_{i}; }}\n" for i in range(60)), tmp_path / "f.o")
    assert "undeclared_0" in str(caught.value)
    assert len(str(caught.value)) < MOST_WORDS + 200
    (note,) = caught.value.__notes__
    assert len(note) > MOST_WORDS
    assert "errors generated" in note or "too many errors" in note


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zig, "find_spec", lambda _: None)
    with pytest.raises(BuildError, match="pip install ziglang"):
        compiled("int f(void) { return 1; }", tmp_path / "f.o")


def test_a_failing_archive_has_the_same_shape(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^a\.a: expected zig ar to make it, got exit code 1: .*absent\.o"):
        archive(tmp_path / "a.a", tmp_path / "absent.o")


def test_what_takes_long_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled("int f(void) { return 1; }", tmp_path / "f.o")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    monkeypatch.setattr(zig, "PATIENCE", 0.0)
    compiled("int g(void) { return 1; }", tmp_path / "g.o")
    (record,) = caplog.records
    assert "g.o" in record.getMessage() and "it still works: the first time for a target" in record.getMessage()
    assert (tmp_path / "g.o").read_bytes()[:4] == b"\x7fELF", "and it got its source"


def test_versions_name_both_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(compiler_versions()) == {"apache-tvm", "ziglang"}
    assert compiler_versions()["ziglang"] == zig_version()

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", absent)
    with pytest.raises(BuildError, match=r"ziglang: expected .* got none; pip install ziglang"):
        zig_version()
    with pytest.raises(BuildError, match="got none; pip install apache-tvm"):
        compiler_versions()


def test_no_other_module_runs_it() -> None:
    naming = {module for module, path in package_modules().items() if '"ziglang"' in path.read_text()}
    told = {"tvm_flow.doctor.packages", "tvm_flow.doctor.programs"}  # which say whether it is there
    assert naming == {"tvm_flow.toolchain.zig", "tvm_flow.toolchain.versions"} | told
