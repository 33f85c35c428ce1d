"""The shapes of both models, under the names that Open-Sora writes into ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Self

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, positive, whole
from tvm_flow.limits import MAX_ELEMENTS

# field of a config -> key in an Open-Sora config.json
_FILE_KEYS = {
    "depth": "depth",
    "hidden": "hidden_size",
    "heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "patch": "patch_size",
    "in_channels": "in_channels",
    "caption_channels": "caption_channels",
    "model_max_length": "model_max_length",
}

Size = Annotated[int, whole(1, MAX_ELEMENTS)]
Scale = Annotated[float, positive(1e6)]
_OF_TRAINING = {"input_size"}
"""Of what Open-Sora writes and inference does not read, the keys that resemble one that it reads."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes that STDiT and STDiT3 have in common.

    ==================  ==========================================================
    depth               number of blocks; STDiT3 has as many of either kind
    hidden, heads       token width; heads of ``hidden / heads`` dimensions
    mlp_ratio           fc1 widens ``hidden`` by this factor
    patch               (frames, rows, columns) of the latent in one token
    in_channels         latent channels; the model predicts twice as many
    caption_channels    width of a caption token
    model_max_length    caption tokens, padding included
    ==================  ==========================================================
    """

    model_type: ClassVar[str]
    file_keys: ClassVar[Mapping[str, str]] = _FILE_KEYS
    fixed: ClassVar[Mapping[str, bool]]
    """Open-Sora switches that change the arithmetic, with the only value this implementation has."""

    depth: Size
    hidden: Size
    heads: Size
    mlp_ratio: Scale = 4.0
    patch: Annotated[tuple[Size, Size, Size], described("three positive sizes")] = (1, 2, 2)
    in_channels: Size = 4
    caption_channels: Size = 4096
    model_max_length: Size = 300

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_fields(self, f"{name}: ", self.file_keys)
        if self.hidden % self.heads:
            raise ConfigError(
                f"{name}: expected hidden to be a multiple of heads, got hidden {self.hidden} and heads "
                f"{self.heads}; change one of them"
            )
        if self.hidden % 4:
            raise ConfigError(f"{name}.hidden: expected a multiple of 4 (sin and cos of two axes), got {self.hidden}")
        texts = self.model_max_length * self.caption_channels
        if texts > MAX_ELEMENTS or self.mlp_hidden < 1:
            raise ConfigError(
                f"{name}: expected at most {MAX_ELEMENTS} numbers in a caption (model_max_length x caption_channels) "
                f"and 1 or more in the MLP (hidden_size x mlp_ratio), got {texts} and {self.mlp_hidden}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def mlp_hidden(self) -> int:
        """Width between fc1 and fc2."""
        return int(self.hidden * self.mlp_ratio)

    @property
    def out_channels(self) -> int:
        """Velocity or noise, and the variance half: twice ``in_channels``."""
        return 2 * self.in_channels

    def to_dict(self) -> dict[str, Any]:
        """The keys and values of an Open-Sora ``config.json``."""
        values = {key: getattr(self, field) for field, key in self.file_keys.items()}
        return {**values, "patch_size": list(self.patch), "model_type": self.model_type, **self.fixed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read an Open-Sora ``config.json``; keys without influence on inference are passed over.

        Trainers and hubs add keys as they like, so that an unknown one is an error only where it is the misspelt name
        of one that is absent.

        Raises ConfigError for such a key, when a size is missing or mistyped, or when it asks for another model or
        arithmetic.
        """
        name = cls.model_type
        if not isinstance(values, Mapping):
            raise ConfigError(f"{name} config: expected a mapping of keys, got {type(values).__name__}")
        for key, have in {"model_type": name, **cls.fixed}.items():
            if type(values.get(key, have)) is not type(have) or values.get(key, have) != have:
                raise ConfigError(f"config key {key}: only {have} is implemented by {name}, got {values[key]}")
        known = {*cls.file_keys.values(), *cls.fixed}
        for key in sorted(map(str, set(values) - known - _OF_TRAINING)):
            if meant := get_close_matches(key, known - set(values), 1, cutoff=0.85):
                raise ConfigError(f"{name} config: unknown key {key}: expected {meant[0]}, which is absent; rename it")
        missing = [key for key in ("depth", "hidden_size", "num_heads") if key not in values]
        if missing:
            raise ConfigError(f"{name} config: expected the keys {missing}, got {sorted(values)}; add them")
        fields = {field: values[key] for field, key in cls.file_keys.items() if values.get(key) is not None}
        if isinstance(fields.get("patch"), list):
            fields["patch"] = tuple(fields["patch"])
        return cls(**fields)


@dataclass(frozen=True)
class STDiT3Config(ModelConfig):
    """Sizes of an STDiT3 (Open-Sora v1.2). ``input_sq_size``: pixels at which positions count in steps of one."""

    model_type: ClassVar[str] = "STDiT3"
    file_keys: ClassVar[Mapping[str, str]] = {**_FILE_KEYS, "input_sq_size": "input_sq_size"}
    fixed: ClassVar[Mapping[str, bool]] = {
        "pred_sigma": True,
        "qk_norm": True,
        "qk_norm_legacy": False,
        "skip_y_embedder": False,
    }

    input_sq_size: Size = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim % 2:
            raise ConfigError(
                f"STDiT3Config: expected hidden to be an even multiple of heads (rope turns pairs), "
                f"got hidden {self.hidden} and heads {self.heads}; change one of them"
            )


@dataclass(frozen=True)
class STDiTConfig(ModelConfig):
    """Sizes of an STDiT (Open-Sora v1.0).

    ==================  ==========================================================
    space_scale         rows and columns are divided by it: 1 at 512 px, 0.5 at 256
    time_scale          frame numbers are divided by it
    ==================  ==========================================================
    """

    model_type: ClassVar[str] = "STDiT"
    file_keys: ClassVar[Mapping[str, str]] = {
        **_FILE_KEYS,
        "space_scale": "space_scale",
        "time_scale": "time_scale",
    }
    fixed: ClassVar[Mapping[str, bool]] = {"pred_sigma": True, "no_temporal_pos_emb": False}

    model_max_length: Size = 120
    space_scale: Scale = 1.0
    time_scale: Scale = 1.0


STDIT3_XL_2 = STDiT3Config(depth=28, hidden=1152, heads=16)
"""STDiT3-XL/2 as released with Open-Sora v1.2."""

STDIT_XL_2 = STDiTConfig(depth=28, hidden=1152, heads=16)
"""STDiT-XL/2 as released with Open-Sora v1.0 for 512 px."""

STDIT_XL_2_256 = STDiTConfig(depth=28, hidden=1152, heads=16, space_scale=0.5)
"""The same model as released for 256 px."""
