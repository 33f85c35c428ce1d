"""``package --qualcomm``: the linears of exported steps as context binaries for one Snapdragon's HTP, each of them run.

    export --import, partition--> calls --their own constants--> QDQ ONNX --Qualcomm's compiler--> context binaries
                                                                          --its emulator--> within 1 of the exact result

Each linear is a graph of its own, also where one hands codes to the next: the device may be 1 away from the exact
result, and what another linear makes of that is no longer within 1. Scales are baked in, so that equal calls share a
binary as on Ethos-U, also by clusters (`tvm_flow.compile.step_clusters`). ``htp.json`` says what calls what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tvm_flow.artifact import write_bytes, write_json
from tvm_flow.backends.npu.linears import Values, linears_of, outside
from tvm_flow.backends.npu.qualcomm.qdq import HtpLinear, qdq_model
from tvm_flow.backends.npu.qualcomm.rounding import Held, rounded
from tvm_flow.compile.packaged import Packaged, Scales
from tvm_flow.compile.step_clusters import Sharing
from tvm_flow.compile.step_members import Member, PackageOptions, members_of
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.export import Exported
from tvm_flow.graph.constants import Array, Derived, evaluate
from tvm_flow.graph.lifted import shape_of
from tvm_flow.graph.program import KernelCall
from tvm_flow.lower.partition import partition
from tvm_flow.toolchain.qualcomm import SOCS, HtpBlob, htp_blobs, missing_package, tool_version

INDEX = "htp.json"
REGION = "region_"
"""Begins the names of all other files."""
_DIGITS = 16
_SPREAD = 32
"""Of the normal codes that regions are tried on, as ranges leave them: a few reach the ends."""


@dataclass
class HtpPackage(Packaged):
    """What was packaged, with the bytes of binaries by region, and how near results were; ``device`` is an SoC."""

    sizes: dict[str, int] = field(default_factory=dict)
    held: Held = field(default_factory=Held)

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"{self.of_calls} by {len(self.sizes)} context binaries, {sum(self.sizes.values())} bytes"
        yield from self.work.lines(self.device)
        yield (
            f"emulated: {self.held.elements} results, of which {self.held.away} are 1 away from the exact one and none "
            "is farther; scales are those of the export"
        )
        yield from map(str, self.choices)


def package_htp(exported: Exported, options: PackageOptions, folder: Path, progress: bool = True) -> HtpPackage:
    """Write the package of ``exported`` into ``folder``; ``options.device`` is one of `SOCS`.

    Raises BuildError for options that do not fit and with Qualcomm's words, BitExactError where what was compiled has
    other scales or computes something else.
    """
    if options.device not in SOCS:
        raise BuildError(f"SoC {options.device!r}: expected one of {', '.join(SOCS)}; choose one of them")
    if missing := missing_package():
        raise BuildError(missing)
    members = members_of(exported, options.steps, partition, progress)
    recipe = "a recipe that has them, its blocks not in integers"
    sharing = Sharing.of(members, lambda function: bool(linears_of(function)), exported.folder, recipe)
    packager = _Packager(HtpPackage(options.device, options.steps), folder, progress)
    packager.package.place(sharing, options, packager.region, packager.compiled)
    write_json(folder / INDEX, packager.index())
    return packager.package


class _Packager:
    def __init__(self, package: HtpPackage, folder: Path, progress: bool) -> None:
        self.package, self.folder, self.progress = package, folder, progress
        self.linears: dict[str, HtpLinear] = {}
        """By the names of their regions, which say what is in them."""
        self.models: dict[str, bytes] = {}

    def region(self, member: Member, call: KernelCall, constants: Mapping[int, Array]) -> tuple[str, Scales]:
        """Of a call; raises BuildError for one that starts with something else."""
        linear = _linear(member, call, constants)
        model = qdq_model(linear)
        name = region_name(model)
        self.linears[name], self.models[name] = linear, model
        return name, (float(linear.x_scale), float(linear.scales["y"]))

    def compiled(self) -> dict[str, int]:
        """The bytes of every region, written when it is held to its reference."""
        rng = np.random.default_rng(0)
        given = {name: (self.models[name], _codes(rng, linear)) for name, linear in self.linears.items()}
        made = htp_blobs(given, self.package.device)
        for name, blob in tqdm(made, "package", len(given), unit="region", disable=not self.progress):
            linear = self.linears[name]
            require_scales(name, linear, blob)
            first, second = blob.outputs
            if not np.array_equal(first, second):
                raise BitExactError(f"{name}: expected two runs to give the same, got others; report this layer")
            self.package.held.hold(name, rounded(linear, given[name][1]), first)
            self.package.sizes[name] = len(blob.binary)
            for file, data in ((f"{name}.onnx", blob.wrapper), (f"{name}.qdq.onnx", self.models[name])):
                write_bytes(self.folder / file, data)
            write_bytes(self.folder / blob.binary_name, blob.binary)
        return self.package.sizes

    def index(self) -> dict[str, object]:
        """What `INDEX` says."""
        architecture, number = SOCS[self.package.device]
        return {
            "soc": {"name": self.package.device, "htp_arch": architecture, "soc_model": number},
            "onnxruntime_qnn": tool_version(),
            "regions": {name: {"context": f"{name}.onnx", "graph": f"{name}.qdq.onnx"} for name in self.linears},
            "calls": [asdict(call) for call in self.package.calls],
            "emulated": asdict(self.package.held),
        }


def region_name(model: bytes) -> str:
    """Of a region, by what it is."""
    return f"{REGION}{hashlib.sha256(model).hexdigest()[:_DIGITS]}"


def require_scales(name: str, linear: HtpLinear, blob: HtpBlob) -> None:
    """Raises BitExactError where the compiled graph has a tensor of another scale or zero point than ``linear``."""
    for tensor, scale in linear.scales.items():
        got = blob.scales.get(tensor)
        if got is None or (np.float32(got[0]), got[1]) != (scale, 0):
            raise BitExactError(
                f"{name}: expected the compiled graph to have tensor {tensor} with scale {scale} and zero point 0, got "
                f"{'no such tensor' if got is None else got}; install the release that pyproject.toml names"
            )


def _linear(member: Member, call: KernelCall, constants: Mapping[int, Array]) -> HtpLinear:
    function = member.program.kernels[call.kernel]
    linears, values = linears_of(function), Values(function, constants)
    if len(linears) != 1:
        raise outside(function)
    (linear,) = linears
    weights = values.of(linear.weights)
    columns = weights.shape[1]
    product = member.program.graph.constants[call.args[values.place(linear.scale)]]
    assert isinstance(product, Derived), "of the input's scale and the weights'"
    _, weight_scale = (evaluate(source, member.given) for source in product.sources)
    x_scale, step = (np.float32(scale) for scale in member.scales(call))
    made = HtpLinear(
        shape_of(linear.x)[0],
        x_scale,
        weights,
        np.broadcast_to(weight_scale, columns),
        np.broadcast_to(values.of(linear.bias), columns),
    )
    if linear.step is None:
        return made
    return replace(made, gain=np.broadcast_to(values.of(linear.gain), columns), step=step)


def _codes(rng: np.random.Generator, linear: HtpLinear) -> Array:
    normal = rng.normal(0, _SPREAD, (linear.rows, linear.weights.shape[0]))
    return np.clip(np.rint(normal), -128, 127).astype(np.int8)
