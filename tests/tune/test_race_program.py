"""The program that times candidates: one that hangs, crashes or fails takes nobody with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.execution import HOST
from tvm.script import tirx as T

from tvm_flow.toolchain.zig import zig_cc
from tvm_flow.tune import race_program
from tvm_flow.tune.forked import running
from tvm_flow.tune.race_program import RaceProcess, compile_candidates, link_race
from tvm_flow.tune.rounds import LateError, NoTimeError, race

QUICK, HANGS, CRASHES, FAILS, OTHER = range(5)
BODIES = {
    "quick": "for (int i = 0; i < 8; i++) out[i] = in[i] + 1; return 0;",
    "hangs": "for (;;) { } return 0;",
    "crashes": "out = 0; out[0] = 1; return 0;",
    "fails": "return -1;",
    "other": "for (int i = 0; i < 8; i++) out[i] = in[i] + 2; return 0;",
}
SOURCE = """
#include <stdint.h>
typedef struct {{ void *data; }} tensor;
typedef struct {{ int32_t type, zero; tensor *v; }} any;
int __tvm_ffi_{name}(void *, const any *args, int32_t n, void *);
int __tvm_ffi_{name}(void *self, const any *args, int32_t n, void *result) {{
  volatile float *in = args[0].v->data, *out = args[1].v->data;
  (void)self, (void)n, (void)result, (void)in, (void)out;
  {body}
}}
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("race")
    for name, body in BODIES.items():
        source = SOURCE.format(name=name, body=body)
        triple = f"{HOST.architecture}-linux-gnu.2.34"
        zig_cc(("-O1", "-xc", "-c", "-o", str(folder / f"{name}.o"), "-"), name, triple, source=source)
    return link_race(list(BODIES), HOST, folder)


@pytest.fixture
def process(command: tuple[str, ...]) -> Iterator[RaceProcess]:
    made = RaceProcess(command, 2, [np.arange(8, dtype=np.float32), np.empty(8, np.float32)])
    yield made
    made.close()


def test_a_kernel_is_timed_and_shows_its_output(process: RaceProcess) -> None:
    calls, limit = 10_000, 10.0
    assert 0 < process.seconds(QUICK, calls, limit) <= limit / calls, "of one call: all of them answered in time"
    assert np.array_equal(np.frombuffer(process.output(QUICK, 10.0), np.float32), np.arange(1, 9, dtype=np.float32))


def test_a_kernel_that_writes_nothing_shows_no_old_output(process: RaceProcess) -> None:
    process.output(QUICK, 10.0)
    with pytest.raises(NoTimeError, match="exit code 1"):
        process.output(FAILS, 10.0)
    assert process.output(OTHER, 10.0) != process.output(QUICK, 10.0)


def test_a_kernel_that_hangs_is_given_up_and_the_next_one_runs(process: RaceProcess) -> None:
    with pytest.raises(NoTimeError, match=r"no answer in 0\.5 s"):
        process.seconds(HANGS, 1, 0.5)
    assert process.seconds(QUICK, 1, 10.0) >= 0


def test_a_kernel_that_crashes_is_named_by_its_signal(process: RaceProcess) -> None:
    with pytest.raises(NoTimeError, match="SIGSEGV"):
        process.seconds(CRASHES, 1, 10.0)
    assert process.seconds(QUICK, 1, 10.0) >= 0


def test_a_race_among_them_ends_with_their_causes(process: RaceProcess) -> None:
    class Sampler:
        def sample(self, candidate: str) -> float:
            return process.seconds(list(BODIES).index(candidate or "quick"), 100, 0.5)

        def state(self) -> dict[str, str]:
            return {}

    timed = race(Sampler(), ["hangs", "crashes", "fails", "other"])
    assert set(timed.failed) == {"hangs", "crashes", "fails"}
    assert timed.samples.get("other") or timed.given_up


def test_closing_leaves_no_process(process: RaceProcess) -> None:
    process.seconds(QUICK, 1, 10.0)
    assert process._process is not None
    pid = process._process.pid
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def copy_kernel() -> object:
    @T.prim_func(s_tir=True)
    def kernel(x: T.handle, y: T.handle) -> None:
        X = T.match_buffer(x, (8,), "float32")
        Y = T.match_buffer(y, (8,), "float32")
        for i in range(8):
            Y[i] = X[i]

    return kernel


def refuses() -> object:
    raise ValueError("no such tile")


def dies() -> object:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_candidate_that_ends_its_compiler_leaves_the_others(tmp_path: Path) -> None:
    failed = compile_candidates({"good": copy_kernel, "bad": refuses, "worse": dies}, HOST, tmp_path, workers=3)
    assert set(failed) == {"bad", "worse"}
    assert "no such tile" in failed["bad"]
    assert (tmp_path / "good.o").exists()


def test_compiling_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_program, "COMPILE_TIMEOUT", 0.5)
    failed = compile_candidates({"slow": lambda: signal.pause()}, HOST, tmp_path, workers=1)
    assert failed == {"slow": "its compiler ended or took too long"}


def test_an_interrupt_while_compilers_are_started_leaves_none_behind() -> None:
    class Interrupted(multiprocessing.get_context("fork").Process):  # type: ignore[name-defined,misc]
        def start(self) -> None:
            super().start()
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a board's process has it
    try:
        with pytest.raises(KeyboardInterrupt), running([Interrupted(target=signal.pause) for _ in range(2)]):
            pytest.fail("it was interrupted before")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert multiprocessing.active_children() == []


def test_compiling_ends_with_the_time_that_it_has_and_nobody_is_to_blame(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(LateError):
        compile_candidates({"slow": lambda: signal.pause()}, HOST, tmp_path, workers=1, seconds=0.5)
    assert time.monotonic() - start < race_program.COMPILE_TIMEOUT / 2
    assert multiprocessing.active_children() == []
