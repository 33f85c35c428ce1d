"""What a Vulkan device offers, as far as shaders depend on it: the section ``vulkan`` of a target file.

    vulkan:
      version: "1.1"                        the least that the device's drivers have
      vendor: mali                          whose tiles a product starts with
      features: [storage_8, rte_float32]    names of `FEATURES`
      shared_bytes: 32768                   maxComputeSharedMemorySize
      invocations: 256                      maxComputeWorkGroupInvocations
      subgroup: 16                          0 where it varies
      storage_bytes: 134217728              maxStorageBufferRange
      push_bytes: 128                       maxPushConstantsSize
      source: where a reader finds these numbers

What the file does not say is the least that Vulkan guarantees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, text, whole

FEATURES: Mapping[str, frozenset[str]] = {
    "storage_8": frozenset({"StorageBuffer8BitAccess"}),
    "int8": frozenset({"Int8"}),
    "storage_16": frozenset({"StorageBuffer16BitAccess"}),
    "float16": frozenset({"Float16"}),
    "integer_dot": frozenset({"DotProduct", "DotProductInput4x8BitPacked"}),
    "rte_float32": frozenset({"RoundingModeRTE"}),
    "preserve_float32": frozenset({"SignedZeroInfNanPreserve"}),
    "subgroup_arithmetic": frozenset({"GroupNonUniform", "GroupNonUniformArithmetic"}),
}
"""Names of features, and the capabilities of SPIR-V that each allows a module; what a compute shader has anyway is
``Shader``."""

VERSIONS = ("1.0", "1.1", "1.2", "1.3")
Vendor = Literal["adreno", "amd", "arm", "imagination", "intel", "llvmpipe", "nvidia", "v3d", "unknown"]


@dataclass(frozen=True)
class VulkanDevice:
    """See the module; raises ConfigError naming a field that is wrong."""

    version: Annotated[Literal["1.0", "1.1", "1.2", "1.3"], described(f"one of {', '.join(VERSIONS)}, quoted")] = "1.0"
    vendor: Annotated[Vendor, described("the name of a vendor whose tiles are known, or unknown")] = "unknown"
    features: Annotated[tuple[str, ...], described(f"a list of names among {', '.join(FEATURES)}")] = ()
    shared_bytes: Annotated[int, whole(16384, 1 << 20)] = 16384
    invocations: Annotated[int, whole(128, 4096)] = 128
    subgroup: Annotated[int, whole(0, 128)] = 0
    storage_bytes: Annotated[int, whole(1 << 27, 1 << 40)] = 1 << 27
    push_bytes: Annotated[int, whole(128, 4096)] = 128
    source: Annotated[str, text()] = "the least that Vulkan guarantees"

    def __post_init__(self) -> None:
        check_fields(self, "")
        unknown = sorted(set(self.features) - set(FEATURES))
        if unknown:
            raise ConfigError(f"features: unknown names {unknown}; have {', '.join(FEATURES)}; correct them")

    def has(self, feature: str) -> bool:
        """Whether shaders may use ``feature``, a name of `FEATURES`."""
        return feature in self.features

    @property
    def capabilities(self) -> frozenset[str]:
        """All that a module may declare."""
        return frozenset({"Shader"}).union(*(FEATURES[name] for name in self.features))

    def describe(self) -> dict[str, Any]:
        """For a manifest: what the shaders depend on."""
        return asdict(self) | {"features": sorted(self.features)}

    @property
    def environment(self) -> str:
        """As SPIR-V's tools name the version."""
        return f"vulkan{self.version}"


def read_vulkan(values: Any) -> VulkanDevice:
    """The device of a target file's section; raises ConfigError naming a wrong key."""
    return from_mapping(VulkanDevice, "", values)
