"""``--check none``: a bundle for a target that no machine at hand can check, which says so."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_flow.artifact import stamp_path
from tvm_flow.check import machines
from tvm_flow.check.sampling import Unchecked, parse_check
from tvm_flow.cli import commands
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BuildError, BundleError
from tvm_flow.export import Exported
from tvm_flow.pack import read_golden, verify_bundle
from tvm_flow.quality.bundle_report import bundle_report
from tvm_flow.run import Bundle
from tvm_flow.target.spec import TargetSpec, load_target

NONE = CompileOptions(threads=1, progress=False, check=parse_check("none"))
OTHER = "x86-64-v3" if platform.machine() == "aarch64" else "raspberry-pi-5"


@pytest.fixture(scope="module")
def unchecked(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compile_bundle(exported, host, tmp_path_factory.mktemp("unchecked") / "bundle", NONE)


def test_its_text_is_none() -> None:
    assert parse_check("none") == Unchecked() and str(Unchecked()) == "none"


def test_a_target_that_nothing_here_runs_is_built(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = load_target(OTHER)
    monkeypatch.setattr(machines, "MACHINES", ())
    with pytest.raises(BuildError, match="or with --check none"):
        compile_bundle(exported, target, tmp_path / "bundle", CompileOptions(threads=1, progress=False))
    made = compile_bundle(exported, target, tmp_path / "bundle", NONE)
    assert not made.exactness and made.checked_on == "" and made.decoder is None
    assert not verify_bundle(made.bundle, target.triple.split("-")[0]).checked
    assert not read_golden(made.bundle).computed
    assert compile_bundle(exported, target, tmp_path / "bundle", NONE) == made, "current"


def test_compile_says_so_last(unchecked: Compiled, capsys: pytest.CaptureFixture[str]) -> None:
    commands._report(unchecked)
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("UNCHECKED: ") and "bit-exact" not in said


def test_inspect_says_so(unchecked: Compiled) -> None:
    said = bundle_report(unchecked.bundle)
    assert "UNCHECKED" in said and "checked on" not in said


def test_it_has_the_libraries_of_a_checked_one(unchecked: Compiled, compiler: Callable[[str, str], Compiled]) -> None:
    checked = compiler("w8a8", "host")
    libraries = sorted(path.relative_to(checked.bundle) for path in checked.bundle.glob("lib/*/*.so"))
    for name in (*libraries, Path("weights.bin")):
        assert (unchecked.bundle / name).read_bytes() == (checked.bundle / name).read_bytes()
    golden = read_golden(checked.bundle)
    with pytest.raises(BundleError, match="--unchecked"):
        Bundle.open(unchecked.bundle, threads=1)
    with Bundle.open(unchecked.bundle, threads=1, unchecked=True) as bundle:
        latents = bundle.generate(golden.noise, golden.cond, golden.uncond)
    assert latents.tobytes() == golden.latents.tobytes()


def test_checking_it_makes_it_again(unchecked: Compiled, exported: Exported, host: TargetSpec, tmp_path: Path) -> None:
    shutil.copytree(unchecked.bundle, tmp_path / "bundle")
    shutil.copy(stamp_path(unchecked.bundle), tmp_path)
    assert not compile_bundle(exported, host, tmp_path / "bundle", NONE).exactness, "the copy is current"
    compiled = compile_bundle(exported, host, tmp_path / "bundle", CompileOptions(threads=1, progress=False))
    assert compiled.exactness and verify_bundle(tmp_path / "bundle").checked
    with Bundle.open(tmp_path / "bundle", threads=1) as bundle:
        bundle.verify()


def test_the_prompt_of_the_manifest_is_that_of_the_runtime(unchecked: Compiled) -> None:
    with Bundle.open(unchecked.bundle, threads=1, unchecked=True) as bundle:
        assert bundle.info.prompt_bytes == unchecked.prompt_bytes > 0
