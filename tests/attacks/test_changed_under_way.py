"""Files that change while a bundle is opened or open: what was checked is what is used."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import toy_bundle
from support.attack_programs import Attack

EVIL = """#include <stdlib.h>
__attribute__((constructor)) static void run(void) { setenv("EVIL", "1", 1); }
"""
OPENS = {"address": 1000, "thread": 250}
"""Under ThreadSanitizer one takes four times as long."""


def test_step_tables_written_in_place_change_no_run(attack: Attack, victim: Path) -> None:
    words = (victim / "steps.bin").stat().st_size // 4
    runs, others = map(int, attack("write_in_place", victim).split())
    assert (runs, others) == (words, 0)


def test_a_library_that_is_exchanged_between_its_check_and_its_use_never_runs(
    attack_with_threads: Attack, victim: Path, request: pytest.FixtureRequest
) -> None:
    opens = OPENS[request.node.callspec.params["attack_with_threads"]]
    source = victim.parent / "evil.c"
    source.write_text(EVIL)
    evil = toy_bundle.compile_c(victim.parent / "evil.so", [source], "-shared", "-fPIC")
    library = victim / "lib/toy/group0.so"
    evil.write_bytes(evil.read_bytes().ljust(library.stat().st_size, b"\0"))  # its size would give it away
    said = attack_with_threads("exchange_race", victim, library, evil, str(opens))
    opened, refused, ran = map(int, said.split())
    assert opened + refused == opens
    assert min(opened, refused) > opens // 10, "the exchange must fall into the opening"
    assert ran == 0
