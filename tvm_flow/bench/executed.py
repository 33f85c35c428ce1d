"""Instructions that an AArch64 program executes under qemu-user between marks.

A plugin of qemu adds, at the start of every translated block that runs, the block's number of instructions, in all
threads together. The program calls getppid, which nothing else does, before and after what is to be counted: a system
call ends its block, so that

    counted = instructions of the blocks after the one with the first mark, up to the one with the second mark

and so on for further marks: a part for each but the first. A program calls its kernel once before the first mark, and
start-up, packing of weights and first allocations are not counted. Debian's qemu-user-static cannot load plugins, its
qemu-user can.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.toolchain.zig import zig_cc

MARK = 173
"""The number of getppid on AArch64 Linux."""

# What of qemu-plugin.h is needed. QEMU 9 raised the oldest version that it takes to 2, which only took calls away.
_PLUGIN = """
#include <inttypes.h>
#include <stdio.h>
typedef uint64_t id;
typedef struct qemu_plugin_tb block;
extern size_t qemu_plugin_tb_n_insns(const block *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, block *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(block *, void (*)(unsigned, void *), int, void *);
typedef void syscall_cb(id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(id, syscall_cb *);
int qemu_plugin_version = VERSION;
static uint64_t total, start;
static int marks;
static void executed(unsigned cpu, void *instructions) {
  (void)cpu, __atomic_fetch_add(&total, (uintptr_t)instructions, __ATOMIC_RELAXED);
}
static void translated(id plugin, block *b) {
  (void)plugin, qemu_plugin_register_vcpu_tb_exec_cb(b, executed, 0, (void *)qemu_plugin_tb_n_insns(b));
}
static void called(id plugin, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
  (void)plugin, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number != MARK) return;
  if (marks++) fprintf(stderr, "executed %" PRIu64 "\\n", total - start);
  start = total;
}
int qemu_plugin_install(id plugin, const void *info, int argc, char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
  qemu_plugin_register_vcpu_syscall_cb(plugin, called);
  return 0;
}
"""


def find_qemu() -> str | None:
    """The qemu-aarch64 that loads plugins, if it is installed."""
    return shutil.which("qemu-aarch64")


def compile_c(target: str, source: str, output: Path, *options: str) -> Path:
    """``output``, made of C for zig's ``target``; raises BuildError with the compiler's message."""
    code = output.with_suffix(".c")
    code.write_text(source)
    zig_cc(("-O1", *options, "-o", str(output), str(code)), output.name, target)
    return output


def executed(program: list[str], cpu: str, folder: Path, root: Path = Path("/")) -> int:
    """The one part of a ``program`` with two marks, otherwise as `executed_parts`.

    Raises BuildError, beside what that raises, when the program makes more than two marks.
    """
    parts = executed_parts(program, cpu, folder, root)
    if len(parts) != 1:
        raise BuildError(f"program under qemu: expected two marks, got {len(parts) + 1}; count it by its parts")
    return parts[0]


def executed_parts(program: list[str], cpu: str, folder: Path, root: Path = Path("/")) -> list[int]:
    """Instructions of ``program`` from each mark to the next on qemu's ``cpu``; ``root`` holds an AArch64 system.

    The plugin is compiled into ``folder``, which is also the program's home. Raises ConfigError when qemu is missing,
    BuildError when it has no plugins, when the program fails, and when it makes fewer than two marks.
    """
    qemu = find_qemu()
    if qemu is None:
        raise ConfigError("qemu-aarch64: expected it on PATH, found none; apt-get install qemu-user")
    plugin = folder / "count.so"
    if not plugin.exists():
        version = plugin_version(_run([qemu, "--version"]))
        compile_c("native", _PLUGIN, plugin, "-shared", "-fPIC", f"-DMARK={MARK}", f"-DVERSION={version}")
    environment = {**os.environ, "HOME": str(folder), "ORT_DISABLE_TELEMETRY": "1"}
    command = [qemu, "-L", str(root), "-cpu", cpu, "-plugin", str(plugin), *program]
    return parse_executed(_run(command, environment))


def plugin_version(output: str) -> int:
    """Of the plugin interface, for what ``qemu --version`` prints; raises ConfigError when that has no version."""
    found = re.search(r"version (\d+)\.", output)
    if found is None:
        raise ConfigError(f"qemu-aarch64 --version: expected a version such as 7.2.0, got: {output[:200]!r}")
    return 2 if int(found.group(1)) >= 9 else 1


def parse_executed(output: str) -> list[int]:
    """The numbers in what the plugin printed; raises BuildError when there is none."""
    found = re.findall(r"^executed (\d+)$", output, re.MULTILINE)
    if not found:
        raise BuildError(f"program under qemu: expected two marks, got none or one; it printed: {output[-500:]}")
    return [int(number) for number in found]


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise BuildError(
            f"{command[0]}: expected it to succeed, got exit code {done.returncode}: {done.stderr[-1000:]}"
        )
    return done.stdout + done.stderr
