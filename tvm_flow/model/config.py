"""The shape of an STDiT3, under the names that Open-Sora writes into ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_flow.errors import ConfigError

# field of STDiT3Config -> key in an Open-Sora config.json
_FILE_KEYS = {
    "depth": "depth",
    "hidden": "hidden_size",
    "heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "patch": "patch_size",
    "in_channels": "in_channels",
    "caption_channels": "caption_channels",
    "model_max_length": "model_max_length",
    "input_sq_size": "input_sq_size",
}
# Open-Sora switches that change the arithmetic, with the only value this implementation has.
_FIXED = {"pred_sigma": True, "qk_norm": True, "qk_norm_legacy": False, "skip_y_embedder": False}


@dataclass(frozen=True)
class STDiT3Config:
    """Sizes of an STDiT3.

    ==================  ==========================================================
    depth               number of spatial blocks; as many temporal blocks
    hidden, heads       token width; heads of ``hidden / heads`` dimensions
    mlp_ratio           fc1 widens ``hidden`` by this factor
    patch               (frames, rows, columns) of the latent in one token
    in_channels         latent channels; the model predicts twice as many
    caption_channels    width of a caption token
    model_max_length    caption tokens, padding included
    input_sq_size       pixels at which spatial positions count in steps of one
    ==================  ==========================================================
    """

    depth: int
    hidden: int
    heads: int
    mlp_ratio: float = 4.0
    patch: tuple[int, int, int] = (1, 2, 2)
    in_channels: int = 4
    caption_channels: int = 4096
    model_max_length: int = 300
    input_sq_size: int = 512

    def __post_init__(self) -> None:
        for name in ("depth", "hidden", "heads", "in_channels", "caption_channels", "model_max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"STDiT3Config.{name}: expected at least 1, got {getattr(self, name)}")
        if self.hidden % self.heads or self.head_dim % 2:
            raise ConfigError(
                f"STDiT3Config: expected hidden to be an even multiple of heads (rope turns pairs), "
                f"got hidden {self.hidden} and heads {self.heads}; change one of them"
            )
        if self.hidden % 4:
            raise ConfigError(
                f"STDiT3Config.hidden: expected a multiple of 4 (sin and cos of two axes), got {self.hidden}"
            )
        if len(self.patch) != 3 or min(self.patch) < 1:
            raise ConfigError(f"STDiT3Config.patch: expected three positive sizes, got {self.patch}")

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
        """Velocity and the unused variance half: twice ``in_channels``."""
        return 2 * self.in_channels

    def to_dict(self) -> dict[str, Any]:
        """The keys and values of an Open-Sora ``config.json``."""
        values = {key: getattr(self, field) for field, key in _FILE_KEYS.items()}
        return {**values, "patch_size": list(self.patch), "model_type": "STDiT3", **_FIXED}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> STDiT3Config:
        """Read an Open-Sora ``config.json``; keys without influence on inference are passed over.

        Raises ConfigError when a size is missing or mistyped, or a switch asks for other arithmetic.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"STDiT3 config: expected a mapping of keys, got {type(values).__name__}")
        for key, have in _FIXED.items():
            if values.get(key, have) != have:
                raise ConfigError(f"config key {key}: only {have} is implemented, got {values[key]}")
        missing = [key for key in ("depth", "hidden_size", "num_heads") if key not in values]
        if missing:
            raise ConfigError(f"STDiT3 config: expected the keys {missing}, got {sorted(values)}; add them")
        fields = {field: values[key] for field, key in _FILE_KEYS.items() if values.get(key) is not None}
        if "patch" in fields:
            fields["patch"] = tuple(fields["patch"])
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"STDiT3 config: a value has the wrong type: {error}; got {fields}") from error


STDIT3_XL_2 = STDiT3Config(depth=28, hidden=1152, heads=16)
"""STDiT3-XL/2 as released with Open-Sora v1.2."""
