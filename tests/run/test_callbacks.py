"""Progress, cancelling, tracing, and errors that kernels raise."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import toy_bundle

from tvm_flow.errors import RuntimeFailure
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import Bundle, TracedCall

REQUEST = toy_bundle.make_request(21)


def generate(bundle: Bundle, progress: object = None) -> toy_bundle.Float32:
    return bundle.generate(REQUEST.noise, REQUEST.cond, REQUEST.uncond, progress)  # type: ignore[arg-type]


def test_progress_counts_steps(bundle: Bundle) -> None:
    seen: list[tuple[int, int]] = []
    generate(bundle, lambda done, steps: seen.append((done, steps)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_what_progress_raises_cancels(bundle: Bundle, contents: Contents, kind: type[BaseException]) -> None:
    seen: list[int] = []

    def progress(done: int, _steps: int) -> None:
        seen.append(done)
        if done == 2:
            raise kind("stop")

    with pytest.raises(kind, match="stop"):
        generate(bundle, progress)
    assert seen == [1, 2]
    np.testing.assert_array_equal(generate(bundle), toy_bundle.generate(contents, REQUEST))


@pytest.mark.parametrize("with_progress", [True, False])
def test_ctrl_c_cancels_after_the_step(bundle: Bundle, contents: Contents, with_progress: bool) -> None:
    seen: list[int] = []

    def progress(done: int, _steps: int) -> None:
        seen.append(done)
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    def interrupt(call: TracedCall) -> None:
        if (call.step, call.branch, call.call) == (1, 0, 1):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        if with_progress:
            generate(bundle, progress)
        else:
            with bundle.trace(interrupt):
                generate(bundle)
    assert seen == ([1] if with_progress else [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    np.testing.assert_array_equal(generate(bundle), toy_bundle.generate(contents, REQUEST))


def test_trace_shows_every_call(bundle: Bundle, contents: Contents) -> None:
    seen: list[tuple[int, int, int, str]] = []
    with bundle.trace(lambda call: seen.append((call.step, call.branch, call.call, call.kernel))):
        generate(bundle)
    assert seen == toy_bundle.calls_of_run(contents)
    assert [row[:2] for row in seen if row[3] == "toy_context"] == [(s, b) for s in (0, 2, 3) for b in range(2)]
    generate(bundle)
    assert len(seen) == 6 + 16


def test_trace_shows_inputs_and_outputs(bundle: Bundle, contents: Contents) -> None:
    calls: list[TracedCall] = []

    def keep(call: TracedCall) -> None:
        assert not any(array.flags.writeable for array in call.args)
        calls.append(replace(call, args=tuple(array.copy() for array in call.args)))

    with bundle.trace(keep):
        velocity = bundle.velocity(2, 1, REQUEST.noise, REQUEST.cond)
    act, mod, out_mod, scale = toy_bundle.fold(contents, 2, 1)
    context, modulate, last = (call.args for call in calls)
    np.testing.assert_array_equal(modulate[0], REQUEST.noise)
    np.testing.assert_array_equal(modulate[1].ravel(), act)
    np.testing.assert_array_equal(modulate[2].ravel(), mod)
    assert modulate[3].dtype == np.int32
    np.testing.assert_array_equal(context[0], REQUEST.cond.tokens)
    assert context[1].shape == (1, 1, 1, 3) and context[1].ravel()[2] == -np.inf
    np.testing.assert_array_equal(context[2], scale)
    np.testing.assert_array_equal(last[1].ravel(), out_mod)
    np.testing.assert_array_equal(last[0], modulate[3])
    np.testing.assert_array_equal(last[3], velocity)


def test_what_a_trace_raises_stops_the_run(bundle: Bundle) -> None:
    seen: list[int] = []

    def stop(call: TracedCall) -> None:
        seen.append(call.call)
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"), bundle.trace(stop):
        generate(bundle)
    assert seen == [0]
    bundle.verify()


def test_a_call_inside_a_callback_is_refused(bundle: Bundle) -> None:
    with pytest.raises(RuntimeFailure, match="one call at a time"):
        generate(bundle, lambda _done, _steps: bundle.verify())
    bundle.verify()


def test_a_second_thread_is_refused(bundle: Bundle) -> None:
    failures: list[BaseException] = []

    def intrude() -> None:
        try:
            bundle.verify()
        except RuntimeFailure as error:
            failures.append(error)

    def progress(_done: int, _steps: int) -> None:
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    generate(bundle, progress)
    assert len(failures) == 4


@pytest.mark.parametrize(
    ("macro", "message"),
    [
        ("raise", r"call 0: kernel toy_context: expected 0, got -1: ValueError: the toy was told to fail"),
        ("task_fails", r"call 2: kernel toy_velocity: expected 0, got -7: RuntimeError: last task"),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_kernel_errors_carry_their_message(
    tmp_path: Path, contents: Contents, macro: str, message: str, threads: int
) -> None:
    bad = toy_bundle.compile_group(tmp_path / "bad.so", **{macro: 1})
    groups = [replace(contents.groups[0], library=bad), contents.groups[1]]
    write_bundle(tmp_path / "b", replace(contents, groups=groups))
    with Bundle.open(tmp_path / "b", threads=threads) as bundle:
        for _ in range(3):
            with pytest.raises(RuntimeFailure, match=message):
                generate(bundle)
        bundle.velocity(2, 0, REQUEST.noise, REQUEST.cond)
