"""What fits and forwards compute with has a number of threads that the environment does not decide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tvm_flow.numerics.thread_count import FEW, LARGE, MANY, forward_threads, thread_count


@pytest.fixture(params=[1, 3])
def allowed(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads are allowed by the environment."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_inside_it_is_what_was_asked_and_outside_what_it_was(allowed: int) -> None:
    with thread_count(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == allowed
    with pytest.raises(KeyError), thread_count():
        raise KeyError
    assert torch.get_num_threads() == allowed


def test_the_model_decides() -> None:
    with torch.device("meta"):
        large = nn.Linear(LARGE // 1000, 1000, bias=False)
    assert forward_threads(large) == MANY
    assert forward_threads(nn.Linear(4, 4)) == FEW
