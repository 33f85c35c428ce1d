"""What `tvm_flow.compile.ethos_command` packaged, for a person: streams, what they share, cycles, clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tvm_flow.compile.packaged import Packaged
from tvm_flow.toolchain.arm_npu import ETHOS_U, EthosStream


def stream_bytes(stream: EthosStream) -> int:
    """Of commands and weights."""
    return len(stream.commands) + len(stream.weights)


@dataclass
class EthosPackage(Packaged):
    """What was packaged, by streams by the names of their regions; ``device`` is an accelerator."""

    streams: dict[str, EthosStream] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all streams and their weights."""
        return sum(map(stream_bytes, self.streams.values()))

    @property
    def first_bytes(self) -> int:
        """Of the first step's."""
        names = {call.region for call in self.calls if call.step == self.steps[0]}
        return sum(stream_bytes(self.streams[name]) for name in names)

    @property
    def unshared(self) -> int:
        """Bytes, had every call a stream of its own."""
        return sum(stream_bytes(self.streams[call.region]) for call in self.calls)

    def cycles(self, step: int) -> int:
        """vela's estimate of a step's calls, all branches."""
        return sum(self.streams[call.region].cycles for call in self.calls if call.step == step)

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield (
            f"{self.of_calls} by {len(self.streams)} command streams, {self.bytes} bytes; the first step alone "
            f"{self.first_bytes}, without sharing {self.unshared} bytes"
        )
        yield from self.work.lines(self.device)
        yield from map(str, self.choices)
        for step in self.steps:
            cycles = self.cycles(step)
            macs = sum(self.streams[call.region].macs for call in self.calls if call.step == step)
            busy = macs / (cycles * ETHOS_U[self.device]) if cycles else 0.0
            yield f"step {step}: about {cycles} cycles, utilisation {busy:.3f}"
