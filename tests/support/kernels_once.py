"""Kernels that TVM compiled in this process are not compiled again by modules that ask for it.

LLVM takes a third of a small bundle's compilation, and many bundles of the tiny model have the same kernels. A module
whose subject is not the kernels' code says ``pytestmark = pytest.mark.usefixtures("kernels_once")``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tvm
import tvm_ffi
from tvm.target import Target

from tvm_flow.backends.cpu.codegen import compile_object

Made = list[tuple[tvm.IRModule, bytes]]


@cache
def _made() -> defaultdict[tuple[int, str], Made]:
    """By structural hash and target: modules and their objects."""
    return defaultdict(list)


def _compile_once(functions: dict[str, Any], target: Target, path: Path) -> None:
    """`compile_object`, which equal functions reach once; names count, as attributes do."""
    module = tvm.IRModule(functions)
    made = _made()[tvm_ffi.structural_hash(module), str(target)]
    code = next((code for other, code in made if tvm_ffi.structural_equal(module, other)), None)
    if code is None:
        compile_object(functions, target, path)
        made.append((module, path.read_bytes()))
    else:
        path.write_bytes(code)


@contextmanager
def compiled_once() -> Iterator[None]:
    """For libraries and for the sums of their check."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("backends.cpu.backend", "check.sums"):
            patch.setattr(f"tvm_flow.{module}.compile_object", _compile_once)
        yield


@pytest.fixture(scope="module")
def kernels_once() -> Iterator[None]:
    """See the module."""
    with compiled_once():
        yield
