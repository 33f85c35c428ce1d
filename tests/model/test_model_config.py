"""STDiT3Config: the file format and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.model import STDIT3_XL_2, STDiT3Config

SMALL = STDiT3Config(depth=2, hidden=48, heads=4, in_channels=8, caption_channels=24, model_max_length=6)


def test_xl_2_is_the_released_model() -> None:
    assert (STDIT3_XL_2.depth, STDIT3_XL_2.hidden, STDIT3_XL_2.heads) == (28, 1152, 16)
    assert (STDIT3_XL_2.head_dim, STDIT3_XL_2.mlp_hidden, STDIT3_XL_2.out_channels) == (72, 4608, 8)
    assert (STDIT3_XL_2.caption_channels, STDIT3_XL_2.model_max_length) == (4096, 300)
    assert STDIT3_XL_2.patch == (1, 2, 2)


@pytest.mark.parametrize("config", [SMALL, STDIT3_XL_2])
def test_dict_round_trip(config: STDiT3Config) -> None:
    assert STDiT3Config.from_dict(config.to_dict()) == config


def test_to_dict_writes_open_sora_names() -> None:
    written = SMALL.to_dict()
    assert written["hidden_size"] == 48
    assert written["num_heads"] == 4
    assert written["patch_size"] == [1, 2, 2]
    assert written["qk_norm"] is True


def test_from_dict_passes_over_training_keys() -> None:
    extras = {
        "class_dropout_prob": 0.1,
        "drop_path": 0.0,
        "architectures": ["STDiT3"],
        "enable_flash_attn": True,
    }
    assert STDiT3Config.from_dict({**SMALL.to_dict(), **extras}) == SMALL


@pytest.mark.parametrize(("misspelt", "meant"), [("mlp_ration", "mlp_ratio"), ("patchsize", "patch_size")])
def test_a_misspelt_key_is_not_passed_over(misspelt: str, meant: str) -> None:
    values = SMALL.to_dict()
    values[misspelt] = values.pop(meant)
    with pytest.raises(ConfigError, match=f"unknown key {misspelt}: expected {meant}, which is absent; rename it"):
        STDiT3Config.from_dict(values)


def test_every_key_that_open_sora_writes_is_taken() -> None:
    keys = (
        *("input_size", "class_dropout_prob", "drop_path", "enable_flash_attn", "enable_flashattn", "torch_dtype"),
        *("enable_layernorm_kernel", "enable_sequence_parallelism", "only_train_temporal", "freeze_y_embedder"),
        *("freeze", "dtype", "from_pretrained", "type", "architectures", "auto_map", "transformers_version"),
        *("_name_or_path", "no_temporal_pos_emb", "space_scale", "time_scale"),
    )
    least = {"depth": 2, "hidden_size": 48, "num_heads": 4}
    assert STDiT3Config.from_dict({**dict.fromkeys(keys), **least}) == STDiT3Config(depth=2, hidden=48, heads=4)


@pytest.mark.parametrize(
    ("key", "value"),
    [("pred_sigma", False), ("qk_norm", False), ("qk_norm_legacy", True), ("skip_y_embedder", True)],
)
def test_from_dict_refuses_other_arithmetic(key: str, value: bool) -> None:
    with pytest.raises(ConfigError, match=key):
        STDiT3Config.from_dict({**SMALL.to_dict(), key: value})


@pytest.mark.parametrize("key", ["depth", "hidden_size", "num_heads"])
def test_from_dict_names_missing_keys(key: str) -> None:
    values = SMALL.to_dict()
    del values[key]
    with pytest.raises(ConfigError, match=key):
        STDiT3Config.from_dict(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_heads": 5}, "heads"),
        ({"num_heads": 16}, "heads"),  # head dim 3: rope has no pairs
        ({"depth": 0}, "depth"),
        ({"patch_size": [1, 2]}, "patch"),
        ({"patch_size": [1, 0, 2]}, "patch"),
        ({"hidden_size": "wide"}, "hidden_size: expected a whole number from 1 to 268435456, got 'wide'"),
        ({"hidden_size": 48.0}, "hidden_size: expected a whole number"),
        ({"depth": True}, "depth: expected a whole number from 1 to 268435456, got True"),
        ({"mlp_ratio": "4"}, "mlp_ratio: expected a number above 0, at most 1e[+]06, got the text '4'"),
        ({"mlp_ratio": True}, "mlp_ratio: expected a number"),
        ({"mlp_ratio": 1e-9}, "hidden_size x mlp_ratio"),
        ({"patch_size": "122"}, "patch_size: expected three positive sizes, got "),
        ({"patch_size": [1, 2, 2.0]}, "patch_size: expected three positive sizes"),
        ({"caption_channels": 1 << 28}, "numbers in a caption"),
        ({"qk_norm": 1}, "qk_norm"),
        ({"hidden_size": 6, "num_heads": 3}, "hidden"),
    ],
)
def test_from_dict_refuses_impossible_sizes(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        STDiT3Config.from_dict({**SMALL.to_dict(), **change})


def test_config_is_frozen_and_hashable() -> None:
    with pytest.raises(AttributeError):
        SMALL.depth = 3  # type: ignore[misc]
    assert len({SMALL, STDiT3Config(**SMALL.__dict__)}) == 1
