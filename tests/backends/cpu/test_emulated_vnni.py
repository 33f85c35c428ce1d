"""vpdpbusd of both widths on a machine that may have neither: executed by Bochs, compared with exact integers.

`scripts/emulated_vnni` does so for whole bundles.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.emulated_vnni import COMMAND, SHAPES, check_products, products_of
from support.emulated_x86 import missing

from tvm_flow.backends.cpu import x86
from tvm_flow.toolchain.zig import zig_cc

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no emulator of AVX-512: {missing()}")


def test_vnni_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    counts = check_products(products_of((x86.AVX512VNNI, x86.AVXVNNI), SHAPES[:2]), tmp_path)
    assert counts == {"avx512vnni": 5 * 8 * 96, "avxvnni": 5 * 8 * 96}


def test_a_program_is_given_arguments_files_and_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    source = (
        "#include <stdio.h>\n"
        'int main(int n, char **a) { FILE *f = fopen(a[1], "r"); char t[9] = {0}, s[9] = {0};\n'
        '  fgets(t, 9, f); fgets(s, 9, stdin); printf("%s %s %s", t, s, a[2]);\n'
        '  fputs(fopen("/none", "r") ? "found" : "none", stderr); return n; }\n'
    )
    (tmp_path / "file").write_text("one")
    arguments = ("-O2", "-s", "-static", "-x", "c", "-", "-o", str(tmp_path / "program"))
    zig_cc(arguments, "program", "x86_64-linux-musl", source=source)
    command = [*COMMAND, "--stdin", tmp_path / "program", tmp_path / "file", "three"]
    done = subprocess.run(command, input="two", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "one two three", "none")
