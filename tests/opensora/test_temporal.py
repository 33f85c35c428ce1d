"""The temporal decoder: names and sizes of the released checkpoint, the formulas by hand, and what causal means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.temporal_by_hand import decode
from support.tiny_folders import TEMPORAL

from tvm_flow.opensora.temporal import TemporalConfig, TemporalDecoder, unfold_time


@pytest.fixture
def tiny() -> TemporalDecoder:
    torch.manual_seed(3)
    module = TemporalDecoder(TEMPORAL).double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


class TestNames:
    def test_the_released_size_by_name(self) -> None:
        """Written out from the released code; every name and shape that decoding reads."""
        with torch.device("meta"):
            found = {key: tuple(v.shape) for key, v in TemporalDecoder().state_dict().items()}
        expected: dict[str, tuple[int, ...]] = {}

        def conv(name: str, inputs: int, outputs: int, kernel: int, bias: bool) -> None:
            expected[f"{name}.conv.weight"] = (outputs, inputs, kernel, kernel, kernel)
            if bias:
                expected[f"{name}.conv.bias"] = (outputs,)

        def norm(name: str, width: int) -> None:
            expected.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

        def block(name: str, inputs: int, outputs: int) -> None:
            norm(f"{name}.norm1", inputs)
            conv(f"{name}.conv1", inputs, outputs, 3, bias=False)
            norm(f"{name}.norm2", outputs)
            conv(f"{name}.conv2", outputs, outputs, 3, bias=False)
            if inputs != outputs:
                conv(f"{name}.conv3", inputs, outputs, 1, bias=False)

        conv("post_quant_conv", 4, 4, 1, bias=True)
        conv("decoder.conv1", 4, 512, 3, bias=True)
        for b in range(4):
            block(f"decoder.res_blocks.{b}", 512, 512)
            block(f"decoder.block_res_blocks.3.{b}", 512, 512)
            block(f"decoder.block_res_blocks.2.{b}", 256 if b else 512, 256)
            block(f"decoder.block_res_blocks.1.{b}", 256, 256)
            block(f"decoder.block_res_blocks.0.{b}", 128 if b else 256, 128)
        conv("decoder.conv_blocks.2", 512, 1024, 3, bias=True)
        conv("decoder.conv_blocks.1", 256, 512, 3, bias=True)
        norm("decoder.norm1", 128)
        conv("decoder.conv_out", 128, 4, 3, bias=True)
        assert found == expected

    def test_four_frames_for_one(self) -> None:
        assert TemporalConfig().factor == 4


class TestFormulas:
    @pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 5)])
    def test_equals_the_statement_by_hand(self, tiny: TemporalDecoder, shape: tuple[int, int, int]) -> None:
        z = torch.randn(1, 4, *shape, dtype=torch.float64)
        state = {key: value.numpy() for key, value in tiny.state_dict().items()}
        expected = decode(state, z[0].numpy(), TEMPORAL.groups, TEMPORAL.blocks)
        got = tiny(z, 4 * shape[0])[0].numpy()
        assert got.shape == (4, 4 * shape[0], *shape[1:])
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())

    def test_pairs_of_channels_become_frames(self) -> None:
        x = torch.arange(8.0).reshape(1, 4, 2, 1, 1)  # channel c, frame t: 2 c + t
        assert unfold_time(x).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]

    @pytest.mark.parametrize(("frames", "dropped"), [(8, 0), (7, 1), (6, 2), (5, 3)])
    def test_padded_frames_are_dropped_in_front(self, tiny: TemporalDecoder, frames: int, dropped: int) -> None:
        z = torch.randn(1, 4, 2, 2, 2, dtype=torch.float64)
        assert tiny(z, frames).equal(tiny(z, 8)[:, :, dropped:])

    def test_a_convolution_sees_the_past_only(self, tiny: TemporalDecoder) -> None:
        x, later = torch.randn(2, 1, 4, 5, 3, 3, dtype=torch.float64)
        later[:, :, :3] = x[:, :, :3]
        first, second = tiny.decoder.conv1(x), tiny.decoder.conv1(later)
        assert first[:, :, :3].equal(second[:, :, :3])
        assert not first[:, :, 3].equal(second[:, :, 3])
