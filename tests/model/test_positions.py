"""Embeddings of time and place against the formulas, stated again in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tvm_flow.model.positions import Rope, rotate, spatial_embedding, timestep_embedding


@pytest.mark.parametrize("dim", [8, 256])
def test_timestep_embedding_is_cosines_then_sines(dim: int) -> None:
    times = [0.0, 1.0, 33.5, 999.0]
    got = timestep_embedding(torch.tensor(times), dim).numpy()
    half = dim // 2
    for row, t in enumerate(times):
        for k in range(half):
            angle = t * 10000.0 ** (-k / half)
            assert got[row, k] == pytest.approx(math.cos(angle), abs=2e-4)
            assert got[row, half + k] == pytest.approx(math.sin(angle), abs=2e-4)


def spatial_by_hand(rows: int, columns: int, dim: int, scale: float, base_size: int) -> np.ndarray:
    quarter = dim // 4
    out = np.zeros((rows * columns, dim))
    for y in range(rows):
        for x in range(columns):
            for half, place in ((0, x / scale * base_size / columns), (1, y / scale * base_size / rows)):
                for k in range(quarter):
                    angle = place * 10000.0 ** (-k / quarter)
                    out[y * columns + x, half * 2 * quarter + k] = math.sin(angle)
                    out[y * columns + x, half * 2 * quarter + quarter + k] = math.cos(angle)
    return out


@pytest.mark.parametrize(("rows", "columns", "scale"), [(4, 4, 1.0), (3, 5, 0.5), (15, 27, 0.63)])
def test_spatial_embedding(rows: int, columns: int, scale: float) -> None:
    base = round(math.sqrt(rows * columns))
    got = spatial_embedding(rows, columns, 24, scale, base)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), spatial_by_hand(rows, columns, 24, scale, base), atol=1e-6)


def test_spatial_embedding_encodes_the_column_first() -> None:
    grid = spatial_embedding(3, 4, 16, 1.0, 3).unflatten(0, (3, 4))
    assert torch.equal(grid[0, :, :8], grid[2, :, :8])
    assert torch.equal(grid[:, 0, 8:], grid[:, 3, 8:])
    assert not torch.equal(grid[0, 0, :8], grid[0, 1, :8])


def test_rope_frequencies() -> None:
    freqs = Rope(72).freqs
    assert freqs.shape == (36,)
    assert not freqs.requires_grad
    np.testing.assert_allclose(freqs.numpy(), 10000.0 ** (-np.arange(36) * 2 / 72), rtol=1e-6)


def test_rotation_turns_neighbouring_pairs() -> None:
    rope = Rope(8)
    cos, sin = rope.tables(5)
    assert cos.shape == sin.shape == (5, 8)
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    got = rotate(x, cos, sin).numpy()
    freqs = 10000.0 ** (-np.arange(4) * 2 / 8)
    for position in range(5):
        for k in range(4):
            pair = x[:, :, position, 2 * k].numpy() + 1j * x[:, :, position, 2 * k + 1].numpy()
            turned = pair * np.exp(1j * position * freqs[k])
            np.testing.assert_allclose(got[:, :, position, 2 * k], turned.real, atol=1e-5)
            np.testing.assert_allclose(got[:, :, position, 2 * k + 1], turned.imag, atol=1e-5)


def test_rotation_keeps_dot_products_of_equal_distance() -> None:
    """Angles up to 9 round by 2^-21 at most. With u = 2^-24, each of a turned pair is off by 4 u of the pair, a turned
    vector by 4 sqrt(2) u of itself, and a score by u for each of 16 products: of |q| |k|, 2 * 2^-21 + 28 u at most."""
    cos, sin = Rope(16).tables(10)
    q, k = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(1)).expand(2, 10, 16)
    bound = 2 * (2 * 2.0**-21 + 28 * 2.0**-24) * float(q[0].norm() * k[0].norm())
    assert bound < 1e-4
    scores = rotate(q, cos, sin) @ rotate(k, cos, sin).T
    for distance in range(-4, 5):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=bound)
