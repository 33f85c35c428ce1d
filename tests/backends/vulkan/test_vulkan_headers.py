"""What of Vulkan's interface is declared here is what Khronos' own header declares."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tvm_flow.backends.vulkan.backend import RUNTIME_PART

OWN = [RUNTIME_PART / f"vk_{name}.h" for name in ("base", "properties", "objects", "functions")]
KHRONOS = Path("/usr/include/vulkan/vulkan_core.h")


def measured(folder: Path, name: str, include: str) -> str:
    """Size of every structure, offset of every member, value of every number, as a program prints them."""
    text = "".join(path.read_text() for path in OWN)
    lines = [f'  P("{c}", (long long){c});' for c in re.findall(r"(VK_[A-Z0-9_]+) = ", text)]
    for body, struct in re.findall(r"typedef struct \{([^}]*)\} (Vk\w+);", text):
        lines.append(f'  P("{struct}", sizeof({struct}));')
        members = re.findall(r"(\w+)(?:\[\w+\])?[,;]", body)
        lines += [f'  P("{struct}.{m}", offsetof({struct}, {m}));' for m in members]
    program = folder / f"{name}.c"
    header = f'#include <stddef.h>\n#include <stdio.h>\n{include}\n#define P(name, value) printf("%s %lld\\n", name, '
    program.write_text(f"{header}(long long)value)\nint main(void) {{\n" + "\n".join(lines) + "\n  return 0;\n}\n")
    subprocess.run(["gcc", "-o", folder / name, program, f"-I{RUNTIME_PART}"], check=True)
    return subprocess.run([folder / name], capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def _has_khronos() -> None:
    if not KHRONOS.exists():
        pytest.skip("Khronos' header is Debian's libvulkan-dev")


def test_structures_and_numbers_are_khronos(tmp_path: Path) -> None:
    own = measured(tmp_path, "own", '#include "vk_functions.h"')
    assert own.count("\n") > 500
    assert own == measured(tmp_path, "khronos", "#include <vulkan/vulkan.h>")


def test_functions_take_what_khronos_say() -> None:
    """By the names of types: pointers to what is never given are void here."""
    khronos = KHRONOS.read_text()
    text = (RUNTIME_PART / "vk_functions.h").read_text().replace("\\\n", " ")
    functions = re.findall(r"X\((\w+), (vk\w+), \(([^)]*)\)\)", text)
    assert len(functions) > 50

    def types(parameters: str) -> list[str]:
        words = (
            re.sub(r"\s*\*\s*", "* ", re.sub(r"\bconst\b", "", each)).split()[:-1] for each in parameters.split(",")
        )
        return [" ".join(word) for word in words]

    for result, name, parameters in functions:
        declared = re.search(rf"VKAPI_ATTR (\w+) VKAPI_CALL {name}\((.*?)\);", khronos, re.DOTALL)
        assert declared is not None and declared[1] == result, name
        pairs = list(zip(types(parameters), types(declared[2]), strict=True))
        assert all(a == b or a == "void*" for a, b in pairs), (name, pairs)
