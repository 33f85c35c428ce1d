"""What inspect says of a bundle, and diff of two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle, toy_decoder
from support.signed_bundles import KEY, OTHER_KEY, trust_in

from tvm_flow.errors import BundleError, NotSignedError, UnknownKeyError
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.pack.signature import sign_bundle
from tvm_flow.quality.bundle_diff import bundle_differences
from tvm_flow.quality.bundle_report import bundle_report
from tvm_flow.run import Bundle, BundleDecoder

COMPILED = {
    **{"arena_bytes": 1000, "prompt_bytes": 300, "left_in_float": ["blocks.0.proj: a Gemm with alpha 2"]},
    "checked_on": "qemu-aarch64 -cpu cortex-a72",
    "kernels": ["rows: dotprod, 119 calls"],
    "exactness": {"calls": 12, "floats": 1234, "accumulators": 3456, "quantized": 7890, "near_ties": 2, "followed": 11},
}
MODEL = {"model_type": "STDiT3", "depth": 4, "hidden_size": 96}


@pytest.fixture
def write(contents: Contents, tmp_path: Path) -> Callable[..., Path]:
    """A bundle of that name, with some of its contents replaced."""

    def write(name: str, **changes: object) -> Path:
        provenance = {"compiled": COMPILED, "model": MODEL, "recipe": {"ranges": "per_step"}, "model_sha256": "a" * 64}
        write_bundle(tmp_path / name, replace(contents, **{"provenance": provenance, **changes}))
        return tmp_path / name

    return write


def test_it_says_what_the_bundle_holds(write: Callable[..., Path], contents: Contents) -> None:
    bundle = write("b")
    said = bundle_report(bundle)
    for line in (
        "model: STDiT3, depth 4, hidden 96; sha256 aaaaaaaaaaaa",
        "latent: 4x2x2x2; caption: 3 tokens of 4 channels",
        "quantization: ranges per_step",
        "left in float: 1\n  blocks.0.proj: a Gemm with alpha 2",
        f"target: {contents.target['name']}, ",
        "step groups: 2 for 4 steps and 2 branches\n  rows: dotprod, 119 calls",
        "             512 weights.bin",
        "decoder: none; it ends in latents",
        "checked, steps: 12 kernel calls; 11 more followed, not compared",
        "           3,456 accumulators equal",
        "           7,890 codes equal, 2 of these off by 1 at a tie",
        "           1,234 floats within their derived bounds",
        "checked on: qemu-aarch64 -cpu cortex-a72",
    ):
        assert line in said, line
    with Bundle.open(bundle, threads=1) as opened:
        info = opened.info
    memory = {"arena": info.arena_bytes, "step constants": info.step_bytes, "weights": info.weights_bytes}
    for name, size in (memory | {"prompt of all branches": info.prompt_bytes}).items():
        assert f"{size:>14,} {name}" in said, name


def test_who_signed_it_is_said_to_who_asks(write: Callable[..., Path]) -> None:
    bundle = write("b")
    with pytest.raises(NotSignedError):
        bundle_report(bundle, trust_in(KEY))
    sign_bundle(bundle, KEY, "sneakers", 3)
    lines = bundle_report(bundle, trust_in(OTHER_KEY, KEY)).splitlines()
    assert lines[1] == "signed: sneakers, version 3, by key1" and "memory:" in lines
    with pytest.raises(UnknownKeyError):
        bundle_report(bundle, trust_in(OTHER_KEY))


def test_codes_are_counted_where_no_accumulator_leaves_its_kernel(write: Callable[..., Path]) -> None:
    exactness = {**COMPILED["exactness"], "accumulators": 0}
    provenance = {"compiled": {**COMPILED, "exactness": exactness}, "model": MODEL}
    said = bundle_report(write("b", provenance=provenance))
    assert "7,890 codes equal, 2 of these off by 1 at a tie" in said and "accumulators" not in said


def test_a_decoder_is_described(write: Callable[..., Path], contents: Contents, tmp_path: Path) -> None:
    library = toy_decoder.compile_decoder(tmp_path / "decoder.so")
    bundle = write("b", decoder=toy_decoder.with_decoder(contents, library).decoder)
    said = bundle_report(bundle)
    assert "decoder: 4 frames of 2x2, 1 latent frames at a time\n              12 weights\n" in said
    with BundleDecoder.open(bundle, threads=1) as decoder:
        assert f"{decoder.arena_bytes:>14,} arena\nchecked" in said


def test_one_for_another_machine_says_what_its_manifest_knows(write: Callable[..., Path], tmp_path: Path) -> None:
    bundle = write("b")
    for path in bundle.glob("lib/*/*.so"):
        data = bytearray(path.read_bytes())
        data[18] = 183  # AArch64
        path.write_bytes(data)
    write_bundle(tmp_path / "c", replace_libraries(bundle))
    said = bundle_report(tmp_path / "c")
    assert "memory, of the manifest (it does not open here" in said
    assert "           1,000 arena" in said and "             300 prompt of all branches" in said


def replace_libraries(bundle: Path) -> Contents:
    contents = toy_bundle.make_contents(tuple(sorted(bundle.glob("lib/*/*.so"))))  # type: ignore[arg-type]
    return replace(contents, provenance={"compiled": COMPILED})


def test_a_damaged_bundle_is_named(write: Callable[..., Path]) -> None:
    bundle = write("b")
    (bundle / "weights.bin").write_bytes(b"x" * 512)
    with pytest.raises(BundleError, match=r"weights.bin: expected sha256"):
        bundle_report(bundle)


def test_equal_bundles_do_not_differ(write: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(write("a"), tmp_path / "b")
    assert bundle_differences(tmp_path / "a", tmp_path / "b") == []


def test_every_field_and_file_that_differs_has_its_line(write: Callable[..., Path], contents: Contents) -> None:
    other = {"compiled": COMPILED | {"arena_bytes": 2000}, "model": MODEL, "recipe": {"ranges": "widest"}}
    target = dict(contents.target) | {"cpu": "cortex-a76", "features": ["dotprod"]}
    weights = bytes(512)
    lines = bundle_differences(
        write("a", target=dict(contents.target) | {"features": ["fp16", "neon"]}),
        write("b", provenance=other, target=target, weights=weights, cfg_scale=3.5),
    )
    said = dict(line.split(": ", 1) for line in lines)
    assert said["quantization.ranges"] == "per_step | widest"
    assert said["measured.arena_bytes"] == "1000 | 2000"
    assert said["model_sha256"] == f"{'a' * 64} | absent"
    assert said["target.cpu"].endswith(" | cortex-a76")
    assert said["target.features"] == 'only the first has ["fp16", "neon"], only the second ["dotprod"]'
    assert said["weights.bin"].startswith("512 bytes in both, sha256 ")
    assert set(said) >= {"steps.bin"} and not {"golden.bin", "steps", "groups"} & set(said)
    assert json.dumps(said).count("sha256") >= 2
