"""What ``tvm-flow doctor`` looks at: whether this machine has what commands need, and what mends it where not.

    pins (pyproject.toml, or the installed package's metadata) --packages--> findings
    programs, libraries, devices, cores, memory, disk          ------------> findings

Works where torch or TVM are absent, broken or end in a segmentation fault: versions are read from metadata, and what
may fail is tried in a process of its own. So modules here import the standard library, and of this package what does
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tvm_flow.doctor.devices_found import vulkan_findings
from tvm_flow.doctor.finding import Finding
from tvm_flow.doctor.machine import machine_findings
from tvm_flow.doctor.packages import extra_findings, package_findings, python_finding
from tvm_flow.doctor.pins import read_pins
from tvm_flow.doctor.programs import program_findings


def examine(output: Path) -> Iterator[Finding]:
    """Every finding, as it is made; ``output`` is where commands would write."""
    pins = read_pins()
    yield python_finding(pins)
    yield from package_findings(pins)
    yield from program_findings()
    yield from vulkan_findings()
    yield from extra_findings(pins)
    yield from machine_findings(output)
