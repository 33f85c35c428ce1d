"""The ctypes declarations describe the same structures as the C header."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from support import toy_bundle

from tvm_flow.errors import BundleError, NotFiniteError, RuntimeFailure
from tvm_flow.run import native
from tvm_flow.run.status import SIGNATURE_FAULTS, CError, Status, as_exception
from tvm_flow.toolchain.runtime_library import RUNTIME

PAIRS: dict[str, type[ctypes.Structure]] = {
    "tvm_flow_error": CError,
    "tvm_flow_options": native.COptions,
    "tvm_flow_identity": native.CIdentity,
    "tvm_flow_description": native.CDescription,
    "tvm_flow_decoder_description": native.CDecoderDescription,
    "tvm_flow_prompt": native.CPrompt,
    "tvm_flow_request": native.CRequest,
    "tvm_flow_decode_request": native.CDecodeRequest,
    "tvm_flow_view": native.CView,
    "tvm_flow_kernel_call": native.CKernelCall,
}


def names(structure: type[ctypes.Structure]) -> list[str]:
    return [field[0] for field in structure._fields_]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """By structure: its size, then offset and size of each field, as the C compiler sees them."""
    folder = tmp_path_factory.mktemp("layout")
    lines = ['#include "tvm_flow_control.h"', "#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    for name, structure in PAIRS.items():
        lines.append(f'printf("{name} %zu", sizeof({name}));')
        lines += [
            f'printf(" %zu %zu", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
            for field in names(structure)
        ]
        lines.append('puts("");')
    (folder / "layout.c").write_text("\n".join([*lines, "return 0; }"]))
    program = toy_bundle.compile_c(folder / "layout", [folder / "layout.c"])
    rows = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    return {row.split()[0]: [int(number) for number in row.split()[1:]] for row in rows}


@pytest.mark.parametrize("name", PAIRS)
def test_same_layout(layout: dict[str, list[int]], name: str) -> None:
    structure = PAIRS[name]
    fields = [getattr(structure, field) for field in names(structure)]
    expected = [ctypes.sizeof(structure)]
    for field in fields:
        expected += [field.offset, field.size]
    assert layout[name] == expected


@pytest.mark.parametrize("name", PAIRS)
def test_no_field_is_forgotten(name: str) -> None:
    parts = ("", "_base", "_accept", "_decoder", "_trace", "_control")
    header = "".join((RUNTIME / "include" / f"tvm_flow{part}.h").read_text() for part in parts)
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    body = re.search(rf"typedef struct \{{([^}}]*)\}} {name};", header)
    assert body is not None
    declared = [re.split(r"[\s*]+", line.split("[")[0].strip())[-1] for line in body[1].split(";") if line.strip()]
    assert declared == names(PAIRS[name])


def test_status_codes_are_the_same() -> None:
    header = (RUNTIME / "include" / "tvm_flow_base.h").read_text()
    body = re.search(r"typedef enum \{(.*?)\} tvm_flow_status;", header, re.S)
    assert body is not None
    declared = {name: int(number) for name, number in re.findall(r"TVM_FLOW_(\w+) = (\d+)", body[1])}
    assert declared == {status.name: status.value for status in Status}


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_is_an_exception(status: Status) -> None:
    error = CError(status, b"x.so: expected this, got that; do something")
    raised = as_exception(Path("some.bundle"), error)
    assert str(raised) == "some.bundle: x.so: expected this, got that; do something"
    of_the_machine = {
        *("INVALID_ARGUMENT", "NO_MEMORY", "NO_THREAD", "KERNEL_FAILED", "CANCELLED", "NO_DEVICE", "BUSY", "FORKED")
    }
    kinds = dict.fromkeys(of_the_machine, RuntimeFailure) | {"NOT_FINITE": NotFiniteError}
    kinds |= {Status(number).name: kind for number, kind in SIGNATURE_FAULTS.items()}
    assert type(raised) is kinds.get(status.name, BundleError)


def test_a_message_cut_inside_a_letter_is_readable() -> None:
    error = CError(Status.CORRUPT, "é".encode()[:1])
    assert "b:" in str(as_exception(Path("b"), error))
