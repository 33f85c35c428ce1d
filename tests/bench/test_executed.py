"""Counting executed AArch64 instructions: programs whose count is known, and programs that cannot be counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_flow.backends.cpu import arm
from tvm_flow.bench.emulated import instructions_per_mac
from tvm_flow.bench.executed import compile_c, executed, executed_parts, find_qemu, parse_executed, plugin_version
from tvm_flow.bench.shapes import Shape
from tvm_flow.errors import BuildError, ConfigError

# Marks around straight code; the loop executes two instructions a round, subs and b.ne.
MARKED = """
#include <unistd.h>
int main(void) {
  getppid();
  __asm__ volatile("%s" ::: "x9", "cc");
  getppid();
  return 0;
}
"""
ASM = '__asm__ volatile("%s" ::: "x9", "cc");\n  '
LOOP = r"mov x9, #%d\n1: subs x9, x9, #1\nb.ne 1b"


def count(folder: Path, code: str) -> int:
    return executed(
        [str(compile_c("aarch64-linux-musl", MARKED % code, folder / "p", "-static"))], "cortex-a72", folder
    )


def test_instructions_between_the_marks_are_counted_one_by_one(tmp_path: Path) -> None:
    """Getting from mark to mark takes some, the same each time."""
    nothing = count(tmp_path, "")
    assert 0 < nothing < 50
    assert count(tmp_path, "nop") == nothing + 1
    assert count(tmp_path, r"nop\nnop\nnop") == nothing + 3


@pytest.mark.parametrize("rounds", [1, 2, 1000, 12345])
def test_every_round_of_a_loop_counts(tmp_path: Path, rounds: int) -> None:
    assert count(tmp_path, LOOP % rounds) - count(tmp_path, "") == 1 + 2 * rounds


def test_other_threads_are_counted_too(tmp_path: Path) -> None:
    """Whoever hands work to a thread must not look cheaper for it."""
    source = """
#include <pthread.h>
#include <unistd.h>
static void *work(void *data) {
  __asm__ volatile("mov x9, #5000\\n1: subs x9, x9, #1\\nb.ne 1b" ::: "x9", "cc");
  return data;
}
int main(void) {
  pthread_t thread;
  getppid();
  pthread_create(&thread, 0, work, 0);
  pthread_join(thread, 0);
  getppid();
}
"""
    assert executed([str(compile_c("aarch64-linux-musl", source, tmp_path / "p", "-static"))], "max", tmp_path) > 10_000


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int main(void) { return 0; }", "expected two marks, got none or one"),
        ("#include <unistd.h>\nint main(void) { getppid(); return 0; }", "expected two marks, got none or one"),
        ("int main(void) { return 3; }", "got exit code 3"),
    ],
    ids=["no mark", "one mark", "failed"],
)
def test_a_program_that_cannot_be_counted_is_an_error(tmp_path: Path, source: str, message: str) -> None:
    program = compile_c("aarch64-linux-musl", source, tmp_path / "p", "-static")
    with pytest.raises(BuildError, match=message):
        executed([str(program)], "max", tmp_path)


def test_code_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"p: expected zig cc to make it for .*, got exit code 1: .*error"):
        compile_c("aarch64-linux-musl", "int main(void) { return }", tmp_path / "p")


def test_every_part_between_two_marks_is_counted_by_itself(tmp_path: Path) -> None:
    source = MARKED.replace("getppid();\n  return", f"getppid();\n  {ASM % LOOP % 1000}getppid();\n  return")
    program = [str(compile_c("aarch64-linux-musl", source % "nop", tmp_path / "p", "-static"))]
    first, second = executed_parts(program, "cortex-a72", tmp_path)
    assert second - first == 1 + 2 * 1000 - 1
    with pytest.raises(BuildError, match="expected two marks, got 3"):
        executed(program, "cortex-a72", tmp_path)


def test_only_counts_are_read() -> None:
    assert parse_executed("version 1\nexecuted 17\nbye\nexecuted 4\n") == [17, 4]
    for output in ("", "executed \n", "not executed 3\n"):
        with pytest.raises(BuildError, match="expected two marks"):
            parse_executed(output)


def test_the_plugin_says_a_version_that_qemu_takes() -> None:
    said = "qemu-aarch64 version {} (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022"
    assert [plugin_version(said.format(v)) for v in ("7.2.22", "8.2.2", "9.0.0", "10.0.3")] == [1, 1, 2, 2]
    with pytest.raises(ConfigError, match="expected a version such as"):
        plugin_version("not qemu\n")


def test_without_qemu_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_qemu() is None
    with pytest.raises(ConfigError, match=r"apt-get install qemu-user$"):
        executed(["p"], "max", tmp_path)


@pytest.mark.parametrize(
    ("isa", "macs"),
    [(arm.SDOT, 16), (arm.SMMLA, 32), (arm.NEON, 4), (arm.SMLAL, 16 / 3)],
    ids=["sdot", "smmla", "neon", "smlal"],
)
def test_a_kernel_executes_little_but_its_products(isa: arm.Isa, macs: int) -> None:
    """SDOT makes 16 products, SMMLA 32, SMULL with SADALP 4, SMLAL 16 in three; deep ones have fewer others."""
    shapes = (Shape(2 * isa.rows, k, 2 * isa.columns) for k in (64, 256))
    shallow, deep = (instructions_per_mac(isa, "neoverse-n2", "max", shape) for shape in shapes)
    assert 1 / macs < deep < shallow < 4 / macs
