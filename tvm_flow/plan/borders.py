"""A program spread over devices: which tensor lies where, and what is copied across a border before which segment.

A call's output lies on the device that runs it, inputs and the output of the graph on the CPU. What a call reads of
another device's is copied once, before the first segment that reads it, and kept as long as that device needs it; a
tensor that the prologue hands over stays on its device and is copied in every step. Constants are not copied: each
device takes those that its calls name from the weights and from the step's block. A segment without calls ends a
program whose output another device wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.backends.packed import CPU, PackedProgram, Segment
from tvm_flow.errors import BuildError


@dataclass(frozen=True)
class Copy:
    """``tensor`` of device ``source`` to a tensor of its own on device ``target``."""

    tensor: str
    source: str
    target: str


@dataclass(frozen=True)
class SpreadSegment:
    """A segment, and the copies that are made before it."""

    segment: Segment
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class Spread:
    """See the module. ``home`` is the device that writes a tensor, for those that are no constants."""

    devices: tuple[str, ...]
    """The CPU, and the others in the order in which the program first needs them."""
    segments: tuple[SpreadSegment, ...]
    home: dict[str, str]

    @property
    def copies(self) -> tuple[Copy, ...]:
        """All of them, in order."""
        return tuple(copy for segment in self.segments for copy in segment.copies)


def spread(packed: PackedProgram) -> Spread:
    """Where everything of ``packed`` lies; raises BuildError for several outputs on several devices."""
    program = packed.program
    if program.others and {packed.device_of(call.kernel) for call in program.calls} - {CPU}:
        raise BuildError(
            f"outputs {', '.join(program.outputs)}: expected one of a program on several devices, got "
            f"{len(program.outputs)}; compile it for the CPU alone"
        )
    home = dict.fromkeys(program.graph.inputs, CPU)
    there: set[tuple[str, str]] = set()
    found: list[SpreadSegment] = []
    segments = packed.segments()
    for segment in segments:
        if segment.first == program.prologue:
            there.clear()  # an arena holds nothing from the prologue on
        copies: list[Copy] = []
        for position in segment.calls:
            call = program.calls[position]
            for name in call.args:
                if name in home and home[name] != segment.device and (name, segment.device) not in there:
                    there.add((name, segment.device))
                    copies.append(Copy(name, home[name], segment.device))
            home[call.output] = segment.device
        found.append(SpreadSegment(segment, tuple(copies)))
    if home[program.output] != CPU:
        last = Segment(CPU, len(program.calls), 0)
        found.append(SpreadSegment(last, (Copy(program.output, home[program.output], CPU),)))
    devices = tuple(dict.fromkeys((CPU, *(segment.device for segment in segments))))
    return Spread(devices, tuple(found), home)
