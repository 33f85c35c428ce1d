"""V and what projects it, rotated within each head: what the model computes stays, a large channel is spread.

Attention mixes tokens, never channels, so for an orthogonal R of a head's size the V rows R W_v and the projection's
columns W_p R^T give W_p R^T (R v) = W_p v. R is a Hadamard matrix over the root of its order where `hadamard` has one
(24 and 72, heads of the demo and of STDiT-XL, among them), else a random rotation. Nothing is added at run time.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tvm_flow.calibrate import layer_names
from tvm_flow.errors import ConfigError
from tvm_flow.model import AnyModel
from tvm_flow.quantize.fold import VALUE_OF, split

Doubles = NDArray[np.float64]


def hadamard(order: int) -> Doubles | None:
    """float64 [order, order] of 1 and -1 with orthogonal rows, by Sylvester's and Paley's constructions, or None."""
    if order == 1:
        return np.ones((1, 1))
    half = hadamard(order // 2) if order % 2 == 0 else None
    if half is not None:
        return np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), half)
    return _paley(order - 1) if order % 4 == 0 and _prime(order - 1) else None


def head_rotation(size: int) -> Doubles:
    """An orthogonal float64 [size, size], the same at every call."""
    found = hadamard(size)
    if found is not None:
        scaled: Doubles = found / np.sqrt(size)
        return scaled
    q, r = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    turned: Doubles = q * np.sign(np.diagonal(r))
    return turned


def with_rotated_heads(model: AnyModel) -> AnyModel:
    """A copy of ``model`` that computes the same but for float32's rounding of the rotated weights.

    Raises ConfigError where something stands between attention and its projection, as inserted outliers may.
    """
    changed = copy.deepcopy(model)
    turn = torch.from_numpy(head_rotation(model.config.head_dim))
    for name in layer_names(model.config):
        block, kind = split(name)
        if kind not in VALUE_OF:
            continue
        values, projection = changed.get_submodule(name), changed.get_submodule(f"{block}.{VALUE_OF[kind]}")
        assert isinstance(values, nn.Linear) and isinstance(projection, nn.Linear)
        if projection._forward_pre_hooks:
            raise ConfigError(
                f"recipe: fit.rotation: expected nothing between attention and {block}.{VALUE_OF[kind]}, got what "
                "changes its input; leave rotation or these outliers out"
            )
        count = projection.in_features  # V comes last in qkv and in kv
        values.weight.data[-count:] = _by_head(turn, values.weight.data[-count:])
        values.bias.data[-count:] = _by_head(turn, values.bias.data[-count:, None])[:, 0]
        projection.weight.data = _by_head(turn, projection.weight.data.T).T.contiguous()
    return changed


def _by_head(turn: Tensor, rows: Tensor) -> Tensor:
    """``rows`` [heads * size, n] with ``turn`` [size, size] in front of each head's, computed in float64."""
    heads = rows.double().unflatten(0, (-1, len(turn)))  # type: ignore[no-untyped-call]
    turned: Tensor = turn @ heads
    return turned.flatten(0, 1).to(rows.dtype)


def _paley(prime: int) -> Doubles:
    """Of order ``prime`` + 1, where ``prime`` is 3 modulo 4: I + S for a skew S of quadratic characters."""
    squares = {k * k % prime for k in range(1, prime)}
    character = np.array([0.0, *(1.0 if k in squares else -1.0 for k in range(1, prime))])
    skew = np.zeros((prime + 1, prime + 1))
    skew[0, 1:], skew[1:, 0] = 1.0, -1.0
    places = np.arange(prime)
    skew[1:, 1:] = character[(places[:, None] - places) % prime]
    made: Doubles = skew + np.eye(prime + 1)
    return made


def _prime(number: int) -> bool:
    return number > 1 and all(number % k for k in range(2, int(number**0.5) + 1))
