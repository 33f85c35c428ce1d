"""Which device ran what, by a bundle's trace."""

from __future__ import annotations

from pathlib import Path

from tvm_flow.pack import read_golden
from tvm_flow.run import Bundle, TracedCall


def devices_of_the_golden_run(folder: Path) -> dict[str, str]:
    """Kernel -> device, over a run of ``folder`` that must repeat its golden output."""
    golden, seen = read_golden(folder), set()

    def note(call: TracedCall) -> None:
        seen.add((call.kernel, call.device))

    with Bundle.open(folder) as bundle, bundle.trace(note):
        latents = bundle.generate(golden.noise, golden.cond, golden.uncond)
    assert latents.tobytes() == golden.latents.tobytes()
    devices = dict(seen)
    assert len(devices) == len(seen), "a kernel has one device"
    return devices
