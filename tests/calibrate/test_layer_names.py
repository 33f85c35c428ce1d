"""Names of blocks and quantized linears are those of the model, in the order they run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tvm_flow.calibrate import Embed, block_names, layer_kinds, layer_names
from tvm_flow.model import STDIT3_XL_2, STDIT_XL_2, AnyConfig, AnyModel, Video


@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
def test_layers_are_named_in_the_order_they_run(model: AnyModel, embed: Embed) -> None:
    seen: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _m, _x, name=name: seen.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "blocks." in name
    ]
    y, mask = embed(["one"])
    model(torch.zeros(1, 4, 2, 4, 4), torch.tensor([500.0]), y, mask, Video(8.0, 32.0, 32.0))
    for handle in handles:
        handle.remove()
    assert tuple(seen) == layer_names(model.config)


def test_blocks_of_one_depth_follow_each_other() -> None:
    temporal = "temporal_blocks.0", "spatial_blocks.1", "temporal_blocks.1"
    assert block_names(STDIT3_XL_2)[:4] == ("spatial_blocks.0", *temporal)
    assert block_names(STDIT_XL_2)[:2] == ("blocks.0", "blocks.1")


@pytest.mark.parametrize(("config", "blocks", "kinds"), [(STDIT3_XL_2, 56, 7), (STDIT_XL_2, 28, 9)])
def test_numbers_of_the_released_models(config: AnyConfig, blocks: int, kinds: int) -> None:
    assert len(block_names(config)) == blocks and len(layer_kinds(config)) == kinds
    assert len(set(layer_names(config))) == blocks * kinds
