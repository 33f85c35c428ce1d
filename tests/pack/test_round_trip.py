"""Whatever contents are written, both readers find them again."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, Golden, Group, Prompt, Variant, read_golden, verify_bundle, write_bundle
from tvm_flow.pack.contents import Float32
from tvm_flow.pack.index import read_index

NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=20).filter(lambda n: n.strip("."))
SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def floats(random: np.random.Generator, *shape: int) -> Float32:
    return (random.normal(size=shape) * 10.0 ** random.integers(-20, 20)).astype(np.float32)


@st.composite
def any_contents(draw: st.DrawFn, library: Path) -> Contents:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps, branches = draw(st.integers(1, 5)), draw(st.integers(1, 2))
    names = draw(st.lists(NAME, min_size=1, max_size=3, unique=True))
    groups = [Group(name, library, draw(st.integers(0, 40))) for name in names]
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=8)))
    tokens, channels = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    prompts = [Prompt(floats(random, tokens, channels), floats(random, tokens)) for _ in range(2)]

    def variant() -> Variant:
        group = draw(st.integers(0, len(groups) - 1))
        return Variant(group, floats(random, groups[group].variant_floats))

    return Contents(
        weights=random.bytes(draw(st.integers(0, 300))),
        groups=groups,
        sampler=draw(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=30), max_size=4)),
        timesteps=[float(t) for t in random.uniform(0, 1000, steps)],
        updates=np.abs(random.normal(size=(steps, 5))),
        cfg_scale=draw(st.floats(0, 100)),
        guided_channels=draw(st.integers(0, shape[0])),
        output_channels=shape[0] * draw(st.integers(1, 2)),
        latent_shape=shape,
        text_tokens=tokens,
        text_channels=channels,
        step_records=floats(random, steps, draw(st.integers(0, 40))),
        variants=[[variant() for _ in range(branches)] for _ in range(steps)],
        target={"name": draw(NAME)},
        provenance=draw(st.dictionaries(st.text(max_size=8), st.none() | st.booleans(), max_size=3)),
        golden=Golden(floats(random, *shape), *prompts, floats(random, *shape)),
    )


@SETTINGS
@given(data=st.data())
def test_any_contents(libraries: tuple[Path, Path], data: st.DataObject) -> None:
    contents = data.draw(any_contents(libraries[0]))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "b"
        write_bundle(directory, contents)
        manifest = verify_bundle(directory)
        index = read_index(directory / "steps.bin")
        golden = read_golden(directory)
        assert (directory / "weights.bin").read_bytes() == contents.weights
    assert manifest.groups == tuple(group.name for group in contents.groups)
    assert (manifest.sampler, manifest.provenance) == (contents.sampler, contents.provenance)
    assert (index.steps, index.branches) == (contents.steps, contents.branches)
    assert index.latent_shape == contents.latent_shape
    assert (index.cfg_scale, index.output_channels) == (contents.cfg_scale, contents.output_channels)
    np.testing.assert_array_equal(index.updates, contents.updates)
    np.testing.assert_array_equal(index.step_records, contents.step_records)
    variants = [variant for step in contents.variants for variant in step]
    for (group, first), variant in zip(index.variants, variants, strict=True):
        assert group == variant.group
        np.testing.assert_array_equal(index.values[first : first + variant.values.size], variant.values)
    np.testing.assert_array_equal(golden.noise, contents.golden.noise)
    np.testing.assert_array_equal(golden.uncond.mask, contents.golden.uncond.mask)
    np.testing.assert_array_equal(golden.latents, contents.golden.latents)


@SETTINGS
@given(name=st.sampled_from(["steps.bin", "manifest.json"]), data=st.data())
def test_any_damage_to_what_is_parsed(bundle_dir: Path, name: str, data: st.DataObject) -> None:
    """Python's readers raise BundleError, whatever was changed."""
    files = {path: path.read_bytes() for path in bundle_dir.rglob("*") if path.is_file()}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            copy = Path(folder) / path.relative_to(bundle_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        damaged = bytearray((Path(folder) / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        changed = bytes(damaged) != (bundle_dir / name).read_bytes()
        (Path(folder) / name).write_bytes(damaged)
        try:
            verify_bundle(Path(folder))
        except BundleError as error:
            assert len(str(error)) > 30
        else:
            assert not changed


def test_golden_of_something_else(tmp_path: Path, contents: Contents) -> None:
    with pytest.raises(BundleError, match="expected a bundle, got"):
        read_golden(tmp_path)
    write_bundle(tmp_path / "b", contents)
    (tmp_path / "b/golden.bin").write_bytes(b"\0" * 40)
    with pytest.raises(BundleError, match=r"expected 94 numbers for a latent \(4, 2, 2, 2\) and 3 tokens, got 10"):
        read_golden(tmp_path / "b")
    (tmp_path / "b/steps.bin").write_bytes(b"short")
    with pytest.raises(BundleError, match="expected a header of 192 bytes"):
        read_golden(tmp_path / "b")


def test_an_infinite_mask_is_no_damage(tmp_path: Path, contents: Contents) -> None:
    mask = np.full(3, -np.inf, np.float32)
    prompt = Prompt(contents.golden.cond.tokens, mask)
    write_bundle(tmp_path / "b", replace(contents, golden=replace(contents.golden, cond=prompt)))
    np.testing.assert_array_equal(read_golden(tmp_path / "b").cond.mask, mask)
    verify_bundle(tmp_path / "b")
