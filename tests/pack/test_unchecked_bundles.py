"""A bundle that nobody checked says so in every file that is asked, and is opened by those alone who know."""

from __future__ import annotations

import json
import shutil
from ctypes import POINTER, byref, c_float, c_void_p, cast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import toy_bundle, toy_decoder
from support.manifests import change_manifest

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, read_golden, read_manifest, verify_bundle, write_bundle
from tvm_flow.pack.contents import NOT_COMPUTED
from tvm_flow.pack.decoder import NO_FRAMES
from tvm_flow.run import Bundle, BundleDecoder
from tvm_flow.run.native import CPrompt, load_runtime
from tvm_flow.run.status import CError, Status


@pytest.fixture
def unchecked(contents: Contents, tmp_path: Path) -> Path:
    made = toy_decoder.with_decoder(contents, toy_decoder.compile_decoder(tmp_path / "decoder.so"))
    assert made.decoder is not None
    golden = replace(made.golden, steps=NOT_COMPUTED, latents=np.zeros_like(made.golden.noise))
    contents = replace(made, golden=golden, decoder=replace(made.decoder, golden_sha256=NO_FRAMES))
    write_bundle(tmp_path / "unchecked", contents)
    return tmp_path / "unchecked"


def test_manifest_and_golden_pair_say_so(unchecked: Path, bundle_dir: Path) -> None:
    assert json.loads((unchecked / "manifest.json").read_text())["checked"] is False
    assert not verify_bundle(unchecked).checked and read_manifest(bundle_dir).checked
    assert not read_golden(unchecked).computed and read_golden(bundle_dir).computed


@pytest.mark.parametrize("function", [Bundle, BundleDecoder])
def test_it_is_refused_unless_asked_for(unchecked: Path, function: type[Bundle] | type[BundleDecoder]) -> None:
    with pytest.raises(BundleError, match=r"--check none.*--unchecked \(unchecked=True\)"):
        function.open(unchecked, threads=1)
    function.open(unchecked, threads=1, unchecked=True).close()


@pytest.mark.parametrize("function", [Bundle, BundleDecoder])
def test_there_is_nothing_to_verify(unchecked: Path, function: type[Bundle] | type[BundleDecoder]) -> None:
    nothing = pytest.raises(BundleError, match=r"is unchecked \(--check none\): nothing to compare with")
    with function.open(unchecked, threads=1, unchecked=True) as opened, nothing:
        opened.verify()


def test_its_null_caption_is_there_for_a_c_program(unchecked: Path, contents: Contents) -> None:
    """It is an input, which is known without a run."""
    golden, found, error = contents.golden, CPrompt(), CError()
    mask = np.ascontiguousarray(golden.cond.mask, np.float32)
    cond = CPrompt(mask.ctypes.data, mask.ctypes.data)
    with Bundle.open(unchecked, threads=1, unchecked=True) as opened:
        call = load_runtime().tvm_flow_null_prompt
        call.argtypes = (c_void_p, POINTER(CPrompt), POINTER(CPrompt), POINTER(CError))
        assert call(opened._pointer, byref(cond), byref(found), byref(error)) == Status.OK, error.message
        tokens = np.ctypeslib.as_array(cast(found.tokens, POINTER(c_float)), golden.uncond.tokens.shape)
        assert (tokens == golden.uncond.tokens).all()
        load_runtime().tvm_flow_prompt_close(byref(found))


def test_it_computes_what_a_checked_one_does(unchecked: Path, contents: Contents) -> None:
    golden = contents.golden
    with Bundle.open(unchecked, threads=1, unchecked=True) as opened:
        latents = opened.generate(golden.noise, golden.cond, golden.uncond)
    assert (
        latents.tobytes()
        == golden.latents.tobytes()
        == toy_bundle.generate(contents, toy_bundle.Request(golden.noise, golden.cond, golden.uncond)).tobytes()
    )


def test_a_manifest_cannot_say_the_opposite(unchecked: Path, bundle_dir: Path, tmp_path: Path) -> None:
    for k, (bundle, said) in enumerate(((unchecked, True), (bundle_dir, False))):
        copy = Path(shutil.copytree(bundle, tmp_path / str(k)))
        change_manifest(copy, lambda values, said=said: values.update(checked=said))
        with pytest.raises(BundleError, match=r"steps\.bin: expected a golden output.*got the opposite"):
            Bundle.open(copy, threads=1, unchecked=True)


@pytest.mark.parametrize("value", [1, "no", None])
def test_what_is_neither_true_nor_false_is_refused(bundle_dir: Path, tmp_path: Path, value: object) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "copy"))
    change_manifest(copy, lambda values: values.update(checked=value))
    with pytest.raises(BundleError, match="checked: expected true or false"):
        read_manifest(copy)
