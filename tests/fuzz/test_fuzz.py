"""A bounded run of every fuzz target, and every flipped bit of what ends in a digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzzing import DIGESTED, TARGETS, build, crashing_input, flips, fuzz

INPUTS = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_targets_are_those_of_what_is_read() -> None:
    assert TARGETS == (
        "cache",
        "decoder",
        "elf",
        "features",
        "index",
        "library",
        "payload",
        "prompt",
        "signature",
        "vgf",
    )


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_is_undefined(folder: Path, target: str) -> None:
    done = fuzz(build(folder, target), INPUTS, seed=1)
    assert done.crash is None, f"{done.crash}; of {crashing_input(done.last)[:200]!r}"
    assert done.inputs == INPUTS


@pytest.mark.parametrize("target", DIGESTED)
def test_every_flipped_bit_is_refused(folder: Path, target: str) -> None:
    assert flips(build(folder, target)) >= 900


def test_a_crash_is_found_and_its_input_kept(folder: Path) -> None:
    """Of a target that reads past an input that begins as only guidance finds it."""
    source = folder / "planted.c"
    source.write_text(
        '#include "driver.h"\n#include <stdlib.h>\n#include <string.h>\n'
        "static volatile uint8_t seen;\n"
        "int target_attempt(const uint8_t *data, size_t bytes) {\n"
        "  uint32_t word = 0;\n  if (bytes < 8) return 1;\n  memcpy(&word, data, 4);\n"
        "  uint8_t *exact = malloc(bytes);\n  memcpy(exact, data, bytes);\n"
        "  if (word == 0xfeedbeef) seen = exact[bytes];\n  free(exact);\n  return 0;\n}\n"
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return target_attempt(data, bytes), 0; }\n"
        "size_t target_seed(uint8_t *out, size_t most) { return memset(out, 0, 8), most < 8 ? 0 : 8; }\n"
    )
    done = fuzz(build(folder, "planted", source), 20_000, seed=1)
    assert done.crash is not None and "heap-buffer-overflow" in done.crash
    assert crashing_input(done.last)[:4] == bytes.fromhex("efbeedfe")
