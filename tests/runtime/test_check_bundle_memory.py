"""check_bundle prints all the memory that a handle takes, as the description and inspect have it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import toy_bundle
from support.example_programs import EXAMPLES, run

from tvm_flow.pack import write_bundle
from tvm_flow.run import Bundle
from tvm_flow.sampler import SamplerConfig
from tvm_flow.toolchain.runtime_library import runtime_sources

STRICT = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")


@pytest.fixture(scope="module")
def check_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("program") / "check_bundle"
    return toy_bundle.compile_c(output, [EXAMPLES / "check_bundle.c", *runtime_sources()], *STRICT)


def rows(said: str) -> dict[str, int]:
    return {name: int(size) for size, name in re.findall(r"^ +(\d+) (.+)$", said, re.M)}


def test_the_prompt_of_all_branches_is_part_of_it(check_bundle: Path, bundle_dir: Path) -> None:
    said = run(check_bundle, bundle_dir, 1)
    with Bundle.open(bundle_dir, threads=1) as bundle:
        info = bundle.info
    found = rows(said)
    assert found["arena"] == info.arena_bytes and found["constants of a step"] == info.step_bytes
    assert found["prompt, all branches"] == info.prompt_bytes == 2 * 144
    assert found["latents and predictions"] == 4 * 4 * 32, "z, two predictions, and what is verified"
    assert f"memory beside them {sum(found.values())} bytes" in said
    assert said.endswith("the golden output, bit for bit\n")


def test_drawn_noise_is_part_of_it(check_bundle: Path, tmp_path: Path) -> None:
    config = SamplerConfig(name="iddpm", steps=3)
    write_bundle(tmp_path / "b", toy_bundle.sampled_contents(tmp_path, config))
    assert rows(run(check_bundle, tmp_path / "b", 1))["latents and predictions"] == 4 * (3 * 32 + 2 * 64)
