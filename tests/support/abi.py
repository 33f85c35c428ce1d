"""The runtime's ABI as text: exported functions, statuses, and every field of every public structure by its place."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from support import toy_bundle
from tvm_flow.toolchain.runtime_library import RUNTIME

STORED = Path(__file__).parents[1] / "runtime" / "abi.txt"
_STRUCT = re.compile(r"typedef struct(?: \w+)? \{([^{}]*)\} (\w+);")
_FIELD = re.compile(r"\(\*(\w+)\)|(\w+)(?:\[\w+\])*$")


def _headers() -> str:
    text = "\n".join(path.read_text() for path in sorted((RUNTIME / "include").glob("*.h")))
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def _fields(body: str) -> list[str]:
    """``u32 a, b[2]; int (*c)(void *, int)`` -> a, b, c."""
    names = []
    for line in filter(None, (each.strip() for each in body.split(";"))):
        parts = [line] if "(*" in line else line.split(",")
        for part in parts:
            found = _FIELD.search(part.strip())
            assert found is not None, part
            names.append(found[1] or found[2])
    return names


def describe(folder: Path) -> str:
    """Sorted lines, as the C compiler of this machine sees the headers; programs are written to ``folder``."""
    text = _headers()
    lines = [f'#include "{path.name}"' for path in sorted((RUNTIME / "include").glob("*.h"))]
    lines += ["#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    for body, name in _STRUCT.findall(text):
        lines.append(f'printf("struct {name} %zu\\n", sizeof({name}));')
        lines += [
            f'printf("struct {name} {field} at %zu, %zu\\n", offsetof({name}, {field}), '
            f"sizeof((({name} *)0)->{field}));"
            for field in _fields(body)
        ]
    lines += [
        f'printf("enum {name} %d\\n", (int){name});'
        for name in sorted(set(re.findall(r"\bTVM_FLOW_\w+(?= = \d)", text)))
    ]
    (folder / "abi.c").write_text("\n".join([*lines, "return 0; }"]))
    program = toy_bundle.compile_c(folder / "abi", [folder / "abi.c"], "-DTVM_FLOW_ANY_LIBC")
    rows = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    functions = re.findall(r"TVM_FLOW_API[\w\s*]*?\b(tvm_flow_\w+)\(", text)
    return "\n".join([*sorted({f"function {name}" for name in functions}), *sorted(set(rows))]) + "\n"
