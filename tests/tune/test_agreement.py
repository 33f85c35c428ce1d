"""What a candidate must give to be timed: the default's bits, or where its sums are ordered otherwise, its bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.attentions import attention
from support.relax_kernels import program_of

from tvm_flow.backends.cpu.choices import AttentionChoice
from tvm_flow.backends.cpu.spaces import space
from tvm_flow.backends.place import place
from tvm_flow.errors import BitExactError
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.agreement import Right, first_right
from tvm_flow.tune.entries import DEFAULT
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.local_bench import LocalBench
from tvm_flow.tune.race_program import RaceProcess
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.search import Task
from tvm_flow.tune.workloads import candidate_of, in_words, key_of, workload_hash

ALIKE, REORDERED = candidate_of(AttentionChoice(2, 24, False)), candidate_of(AttentionChoice(2, 24, False, 2))
ONES = np.ones(4, np.float32)
RIGHT = Right((ONES,), Bounded(np.ones(4), np.full(4, 1e-6)), ONES.tobytes())


@pytest.fixture(scope="module")
def streaming(host: TargetSpec) -> TunedKernel:
    """An attention of 96 keys, by default one block."""
    packed = place(program_of(attention(1, 2, 16, 8, 96, False), {}), host)
    candidates = tuple(map(candidate_of, space(packed, "k")))
    task = Task(key_of(workload_hash(packed, "k"), host, 1), in_words(packed, "k"), candidates)
    return TunedKernel(task, packed, "k", {})


@pytest.fixture
def bench(streaming: TunedKernel, host: TargetSpec, tmp_path: Path) -> Iterator[LocalBench]:
    return LocalBench({streaming.task.key.workload: streaming}, host, 1, 2, tmp_path)


def test_the_same_bits_are_right_and_others_within_the_bound_where_sums_have_another_order() -> None:
    near, far = (ONES + np.float32(5e-7)).tobytes(), (ONES + np.float32(5e-6)).tobytes()
    assert RIGHT.why_not(ALIKE, ONES.tobytes()) == RIGHT.why_not(REORDERED, near) == ""
    assert "not the default's" in RIGHT.why_not(ALIKE, near)
    assert "not within the default's bound" in RIGHT.why_not(REORDERED, far)
    assert "not within the default's bound" in RIGHT.why_not(REORDERED, b"")


def test_a_default_that_never_agrees_has_no_right_output(streaming: TunedKernel) -> None:
    with pytest.raises(BitExactError, match="the default: tune: element"):
        first_right(streaming, lambda args: bytes(args[-1].nbytes))


def test_other_blocks_of_keys_are_timed_and_what_leaves_the_bound_is_not(
    streaming: TunedKernel, bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = streaming.task
    assert task.label.startswith("attention 2x16x96x8")
    blocks = next(each for each in task.space if '"blocks":2' in each)
    with bench.open(task, [blocks]) as sampler:
        assert sampler.sample(DEFAULT) > 0 and sampler.sample(blocks) > 0
    real = RaceProcess.output

    def wrong(process: RaceProcess, kernel: int, timeout: float) -> bytes:
        found = np.frombuffer(real(process, kernel, timeout), np.float32)
        return (found * np.float32(1.01 if kernel else 1.0)).tobytes()

    monkeypatch.setattr(RaceProcess, "output", wrong)
    with bench.open(task, [blocks]) as sampler, pytest.raises(NoTimeError, match="not within the default's bound"):
        sampler.sample(blocks)
