"""What goes into a bundle, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tvm_flow.errors import BundleError
from tvm_flow.limits import MAX_CFG_SCALE, MAX_ELEMENTS, MAX_STEPS
from tvm_flow.pack.frames import Decoder

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UPDATE_FLOATS = 5
NOT_COMPUTED = 0xFFFFFFFF
"""`Golden.steps` of a bundle that was not checked: nobody knows what its input gives."""


@dataclass(frozen=True)
class Group:
    """One step group: a library and the length of the variant vectors that it folds."""

    name: str
    library: Path
    variant_floats: int


@dataclass(frozen=True)
class Variant:
    """What one (step, branch) runs: the index of its group and float32 [variant_floats] activation scales."""

    group: int
    values: Float32


@dataclass(frozen=True)
class Prompt:
    """Tokens float32 [text_tokens, text_channels] and additive mask float32 [text_tokens] (0 or -inf)."""

    tokens: Float32
    mask: Float32


@dataclass(frozen=True)
class Golden:
    """An input and the latents that it must give; noise and latents float32 [latent_shape].

    ``steps``: after how many; 0 for all of them, `NOT_COMPUTED` for latents that stand for nothing and are zero. What
    steps draw comes from `tvm_flow.sampler.seeded_noise` for seed 0.
    """

    noise: Float32
    cond: Prompt
    uncond: Prompt
    latents: Float32
    steps: int = 0

    @property
    def computed(self) -> bool:
        """Whether the latents are what a machine was seen to give for the input."""
        return self.steps != NOT_COMPUTED


@dataclass(frozen=True)
class Contents:
    """Everything that `write_bundle` packs.

    ===============  =======================================================================================
    weights          bytes-like, or a file; what all steps share
    weights_first    bytes of it before those that libraries name: the header, where it is a safetensors file
    groups           step groups, in the order that variants count them
    sampler          JSON-able description of the step grid
    timesteps        [steps], 0..1000
    updates          float64 [steps, 5]: each step's constants, see `tvm_flow.sampler.update`
    cfg_scale        guidance: e = eu + cfg_scale * (ec - eu)
    guided_channels  the first so many latent channels are guided, the others take ec
    output_channels  of the step graphs: as the latent, or twice as many with a learned variance
    latent_shape     channels first, e.g. (C, T, H, W)
    text_tokens      caption tokens, padding included
    text_channels    width of a caption token
    step_records     float32 [steps, step_floats]: what depends on time alone
    variants         [steps][branches]; branch 0 conditional, branch 1 (if any) unconditional
    target           what it was compiled for; ``name`` names the folder under lib/
    provenance       where it came from; kept as it is
    golden           input and output that `tvm_flow_verify` compares bit for bit
    decoder          latents to frames, if the bundle is to end in frames
    static           files for programs that link the groups in, by their paths in the bundle
    extra            other files that come along, for people and their programs
    ===============  =======================================================================================
    """

    weights: bytes | bytearray | memoryview | Path
    groups: Sequence[Group]
    sampler: Mapping[str, Any]
    timesteps: Sequence[float]
    updates: Float64
    cfg_scale: float
    guided_channels: int
    output_channels: int
    latent_shape: tuple[int, ...]
    text_tokens: int
    text_channels: int
    step_records: Float32
    variants: Sequence[Sequence[Variant]]
    target: Mapping[str, Any]
    provenance: Mapping[str, Any]
    golden: Golden
    decoder: Decoder | None = None
    static: Mapping[str, Path] = field(default_factory=dict)
    extra: Mapping[str, Path] = field(default_factory=dict)
    weights_first: int = 0

    @property
    def weights_bytes(self) -> int:
        """Size of the weights."""
        return self.weights.stat().st_size if isinstance(self.weights, Path) else memoryview(self.weights).nbytes

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return len(self.timesteps)

    @property
    def branches(self) -> int:
        """1: conditional only; 2: conditional and unconditional."""
        return len(self.variants[0]) if self.variants else 0

    def check(self) -> None:
        """Raises BundleError naming the first part that contradicts another or is not finite."""
        _same("variants", self.steps, len(self.variants))
        if not 1 <= self.steps <= MAX_STEPS or self.branches not in (1, 2):
            raise BundleError(
                f"contents: expected 1 to {MAX_STEPS} steps of 1 or 2 branches, got {self.steps} steps of "
                f"{self.branches}; pass variants as [steps][branches]"
            )
        if self.step_records.ndim != 2:
            raise BundleError(f"contents.step_records: expected 2 axes, got shape {self.step_records.shape}")
        _array("step_records", self.step_records, (self.steps, self.step_records.shape[1]))
        if not 1 <= len(self.latent_shape) <= 8 or not 0 <= self.guided_channels <= self.latent_shape[0]:
            raise BundleError(
                f"contents.guided_channels: expected 0 to the channels of the latent {self.latent_shape}, "
                f"got {self.guided_channels}; correct one of them"
            )
        for what, shape in (("latent", self.latent_shape), ("text", (self.text_tokens, self.text_channels))):
            if min(shape) < 1 or prod(shape) > MAX_ELEMENTS:
                raise BundleError(f"contents: expected a {what} of 1 to {MAX_ELEMENTS} numbers, got shape {shape}")
        self._check_updates()
        self._check_variants()
        self._check_golden()
        if self.decoder is not None:
            self.decoder.check(self.latent_shape)

    def _check_updates(self) -> None:
        _array("updates", self.updates, (self.steps, UPDATE_FLOATS), dtype=np.float64)
        if (self.updates[:, 2] < 0).any():
            raise BundleError("contents.updates: expected no negative sigma, got one; take them from step_updates")
        if not 0 <= self.cfg_scale <= MAX_CFG_SCALE:
            raise BundleError(
                f"contents.cfg_scale: expected 0 to {MAX_CFG_SCALE}, got {self.cfg_scale}; check the sampler"
            )
        channels = self.latent_shape[0]
        if self.output_channels not in (channels, 2 * channels):
            raise BundleError(
                f"contents.output_channels: expected {channels} or {2 * channels} for the latent {self.latent_shape}, "
                f"got {self.output_channels}; export the model for its sampler"
            )

    def _check_variants(self) -> None:
        for step, branches in enumerate(self.variants):
            _same(f"variants[{step}]", self.branches, len(branches))
            for branch, variant in enumerate(branches):
                which = f"variants[{step}][{branch}]"
                if not 0 <= variant.group < len(self.groups):
                    raise BundleError(
                        f"contents.{which}.group: expected 0 to {len(self.groups) - 1}, got {variant.group}; "
                        "add the group or correct the index"
                    )
                _array(f"{which}.values", variant.values, (self.groups[variant.group].variant_floats,))

    def _check_golden(self) -> None:
        golden = self.golden
        if golden.computed and not 0 <= golden.steps <= self.steps:
            raise BundleError(
                f"contents.golden.steps: expected 0 (all) to {self.steps}, got {golden.steps}; correct one of them"
            )
        _same("latent values", prod(self.latent_shape), golden.noise.size)
        _array("golden.noise", golden.noise, self.latent_shape)
        _array("golden.latents", golden.latents, self.latent_shape)
        for name, prompt in (("cond", golden.cond), ("uncond", golden.uncond)):
            _array(f"golden.{name}.tokens", prompt.tokens, (self.text_tokens, self.text_channels))
            _array(f"golden.{name}.mask", prompt.mask, (self.text_tokens,), finite=False)


def _same(what: str, expected: int, got: int) -> None:
    if expected != got:
        raise BundleError(f"contents.{what}: expected {expected} entries, got {got}; pass one for each")


def _array(
    what: str, array: NDArray[Any], shape: tuple[int, ...], *, finite: bool = True, dtype: DTypeLike = np.float32
) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"contents.{what}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}; convert it first"
        )
    if finite and not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array.ravel()))[0])
        raise BundleError(
            f"contents.{what}: expected finite numbers, got {array.ravel()[first]} at {first}; quantize again"
        )
