"""See the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import toy_bundle
from support.reference_backend.emit import CannotEmit, emit_kernel
from tvm_flow.backends import registry
from tvm_flow.backends.base import Artifacts, CompileJob, Kernel, Offer
from tvm_flow.backends.packed import Refusal
from tvm_flow.target.spec import TargetSpec

NAME = "reference"
_DEVICE = Path(__file__).with_name("device.c")


@dataclass(frozen=True)
class ReferenceBackend:
    """``folder`` is where its part of the runtime is compiled."""

    folder: Path

    @property
    def name(self) -> str:
        return NAME

    @property
    def version(self) -> str:
        return "1"

    def offers(self, kernel: Kernel, target: TargetSpec) -> Offer | Refusal:  # noqa: ARG002
        """Kernels of even number, named k0_..., k2_... by the partition."""
        number = re.match(r"\w*?(\d+)_", kernel.name)
        if number is None or int(number[1]) % 2:
            return Refusal("it takes every other kernel, and this is not one of them")
        try:
            emit_kernel("k", kernel.function)
        except CannotEmit as error:
            return Refusal(str(error), "write the operator in emit.py")
        return Offer("plain C")

    def compile(self, job: CompileJob, folder: Path) -> Artifacts:
        """All segments in one object; the payload of one is the table of its calls' functions."""
        program = job.packed.program
        calls = [program.calls[i].kernel for segment in job.segments.values() for i in segment.calls]
        names = dict.fromkeys(calls)
        text = [emit_kernel(f"{job.prefix}{name}", program.kernels[name]) for name in names]
        payloads = {}
        for row, segment in job.segments.items():
            table = [f"{job.prefix}{program.calls[i].kernel}" for i in segment.calls]
            symbol = f"{job.prefix}reference_{row}"
            text.append(f"extern const function {symbol}[];\nconst function {symbol}[] = {{{', '.join(table)}}};\n")
            payloads[row] = (symbol, 8 * len(table))
        source, output = folder / f"{job.prefix}reference.c", folder / f"{job.prefix}reference.o"
        source.write_text("".join(text))
        toy_bundle.compile_c(output, [source], "-fPIC", "-O1", "-c")
        return Artifacts((output,), payloads=payloads)

    def runtime_library(self) -> Path:
        path = self.folder / "libtvm_flow_device_reference.so"
        if not path.exists():
            toy_bundle.compile_c(path, [_DEVICE], "-shared", "-fPIC")
        return path


@contextmanager
def registered(backend: ReferenceBackend) -> Iterator[ReferenceBackend]:
    """Known under its name inside."""
    registry.register_backend(backend)
    try:
        yield backend
    finally:
        registry.forget_backend(backend.name)
