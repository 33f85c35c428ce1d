"""What all functions of a bundle share: one call at a time, closing while one runs, Ctrl-C, and paths as they are."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy_bundle, toy_decoder

from tvm_flow.errors import BundleError, ConfigError, RuntimeFailure
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import Bundle, BundleDecoder, TracedCall, Workers, native
from tvm_flow.run.handle import Handle
from tvm_flow.run.status import CError, Status, as_exception

REQUEST = toy_bundle.make_request(31)
LATENTS = np.random.default_rng(7).standard_normal((4, 2, 2, 2)).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """A class over `Handle`, a call of its own that shows progress, and what that call gives."""

    open: Callable[..., Any]
    call: Callable[..., Any]
    expected: Callable[[Contents], Any]
    noun: str


def generate(bundle: Bundle, progress: Any = None) -> Any:
    return bundle.generate(REQUEST.noise, REQUEST.cond, REQUEST.uncond, progress)


KINDS = {
    "bundle": Kind(Bundle.open, generate, lambda contents: toy_bundle.generate(contents, REQUEST), "bundle"),
    "decoder": Kind(BundleDecoder.open, BundleDecoder.decode, lambda _: toy_decoder.decode(LATENTS), "decoder"),
    "rgb8": Kind(
        BundleDecoder.open,
        BundleDecoder.decode_rgb8,
        lambda _: np.rint(np.clip(toy_decoder.decode(LATENTS) * np.float32(255), 0, 255)).astype(np.uint8),
        "decoder",
    ),
}


@pytest.fixture(scope="module")
def directory(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with a decoder of one latent frame at a time: two chunks."""
    folder = tmp_path_factory.mktemp("handle")
    toy_decoder.write_decoding(folder / "b", contents)
    return folder / "b"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def handle(kind: Kind, directory: Path) -> Iterator[Handle]:
    with kind.open(directory, threads=2) as opened:
        yield opened


def call(kind: Kind, handle: Handle, progress: Any = None) -> Any:
    return kind.call(handle, progress) if kind.noun == "bundle" else kind.call(handle, LATENTS, progress)


def test_the_table_has_a_row_for_each_class() -> None:
    assert [function.name for function in native.FUNCTIONS] == ["bundle", "decoder"]
    assert {Bundle.FUNCTION, BundleDecoder.FUNCTION} == set(native.FUNCTIONS)


class TestOneCallAtATime:
    def test_a_call_inside_a_callback_is_refused(self, kind: Kind, handle: Handle) -> None:
        with pytest.raises(RuntimeFailure, match="one call at a time"):
            call(kind, handle, lambda _done, _total: handle.verify())
        handle.verify()

    def test_a_second_thread_is_refused_and_changes_nothing(
        self, kind: Kind, handle: Handle, contents: Contents
    ) -> None:
        refused: list[str] = []

        def intrude() -> None:
            try:
                call(kind, handle)
            except RuntimeFailure as error:
                refused.append(str(error))

        def see(_: TracedCall) -> None:
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()

        with handle.trace(see):
            got = call(kind, handle)
        assert got.tobytes() == kind.expected(contents).tobytes()
        assert refused and all("expected one call at a time, got a second; open it twice" in one for one in refused)

    def test_many_threads_get_their_own_result_or_a_refusal(
        self, kind: Kind, handle: Handle, contents: Contents
    ) -> None:
        right, wrong, refused = [], [], []

        def run() -> None:
            for _ in range(100):
                try:
                    same = call(kind, handle).tobytes() == kind.expected(contents).tobytes()
                    (right if same else wrong).append(1)
                except RuntimeFailure:
                    refused.append(1)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and right and len(right) + len(refused) == 400


class TestClose:
    def test_a_closed_one_says_so(self, kind: Kind, directory: Path) -> None:
        handle = kind.open(directory)
        handle.close()
        handle.close()
        message = f"expected an open {kind.noun}, got a closed one; open it again"
        for action in (handle.verify, lambda: call(kind, handle), lambda: handle.trace(print).__enter__()):
            with pytest.raises(RuntimeFailure, match=message):
                action()

    def test_it_stops_the_call_of_another_thread_and_waits(self, kind: Kind, directory: Path) -> None:
        handle = kind.open(directory, threads=2)
        inside, said, seen = threading.Event(), [], []

        def see(traced: TracedCall) -> None:
            seen.append(traced.kernel)
            inside.set()
            time.sleep(0.3)

        def run() -> None:
            try:
                with handle.trace(see):
                    call(kind, handle)
            except RuntimeFailure as error:
                said.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        assert inside.wait(10)
        handle.close()
        assert len(seen) == 1, "freed while the call ran, or not asked to stop"
        thread.join()
        assert len(said) == 1 and "expected to stay open during a call, got closed" in said[0]

    def test_in_a_callback_of_its_own_call_it_is_an_error(self, kind: Kind, handle: Handle) -> None:
        with pytest.raises(RuntimeFailure, match="expected close after the call, got it from a callback"):
            call(kind, handle, lambda _done, _total: handle.close())
        handle.verify()

    @pytest.mark.parametrize("closers", [1, 3])
    def test_at_any_moment_nothing_breaks(self, kind: Kind, directory: Path, contents: Contents, closers: int) -> None:
        """Callers run until they are told that it is closed; every result before is right."""
        expected, moments = kind.expected(contents).tobytes(), random.Random(closers)
        for _ in range(40):
            handle, results, told = kind.open(directory, threads=2), [], []

            def run(handle: Any = handle, results: list[bool] = results, told: list[str] = told) -> None:
                while True:
                    try:
                        results.append(call(kind, handle).tobytes() == expected)
                    except RuntimeFailure as error:
                        if "closed" in str(error):
                            told.append(str(error))
                            return

            callers = [threading.Thread(target=run) for _ in range(2)]
            closing = [threading.Thread(target=handle.close) for _ in range(closers)]
            for thread in callers:
                thread.start()
            time.sleep(moments.uniform(0, 0.003))
            for thread in closing:
                thread.start()
            for thread in [*callers, *closing]:
                thread.join(30)
                assert not thread.is_alive()
            assert all(results) and len(told) == 2


class TestCtrlC:
    @pytest.mark.parametrize("by", ["progress", "trace"])
    def test_it_cancels_and_the_handle_stays_usable(
        self, kind: Kind, handle: Handle, contents: Contents, by: str
    ) -> None:
        seen: list[object] = []

        def interrupt(*what: object) -> None:
            seen.append(what)
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            if by == "progress":
                call(kind, handle, interrupt)
            else:
                with handle.trace(interrupt):
                    call(kind, handle)
        assert len(seen) == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert call(kind, handle).tobytes() == kind.expected(contents).tobytes()

    def test_it_stops_a_verification_between_kernels(self, handle: Handle) -> None:
        seen: list[TracedCall] = []

        def interrupt(traced: TracedCall) -> None:
            seen.append(traced)
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt), handle.trace(interrupt):
            handle.verify()
        assert len(seen) == 1
        handle.verify()


def wait_for(held: Path) -> None:
    """Until the prologue that ``held`` holds has begun."""
    while not held.with_name(f"{held.name}.reached").exists():
        time.sleep(0.001)


class TestStoppingWithoutATrace:
    """No Python runs between kernels: the runtime is told to stop, from another thread."""

    @pytest.fixture
    def held(self, tmp_path: Path) -> Path:
        """While it is there, the prologue of `slow` does not end."""
        path = tmp_path / "held"
        path.touch()
        return path

    @pytest.fixture
    def slow(self, tmp_path: Path, held: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
        """Its prologue ends when the runtime has been told to stop; the step's kernels come after."""
        macro: dict[str, str | float] = {"held": f'"{held}"'}
        libraries = [toy_bundle.compile_group(tmp_path / f"{i}.so", **macro) for i in range(2)]
        contents = toy_bundle.of_one_group(toy_bundle.make_contents((libraries[0], libraries[1])))
        write_bundle(tmp_path / "b", contents)
        with Bundle.open(tmp_path / "b", threads=2) as opened:
            cancel = opened._cancel

            def cancel_and_go_on() -> None:
                cancel()
                held.unlink(missing_ok=True)

            monkeypatch.setattr(opened, "_cancel", cancel_and_go_on)
            yield opened

    def interrupt_at(self, held: Path) -> threading.Thread:
        def run() -> None:
            wait_for(held)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def test_ctrl_c_stops_velocity(self, slow: Bundle, held: Path) -> None:
        thread = self.interrupt_at(held)
        with pytest.raises(KeyboardInterrupt) as raised:
            slow.velocity(0, 0, REQUEST.noise, REQUEST.cond)
        thread.join()
        assert "cancelled before call 1" in str(raised.value.__context__)
        assert signal.set_wakeup_fd(-1) == -1, "as it was before"
        slow.velocity(0, 0, REQUEST.noise, REQUEST.cond)

    def test_closing_stops_velocity(self, slow: Bundle, held: Path) -> None:
        said: list[str] = []

        def run() -> None:
            try:
                slow.velocity(0, 0, REQUEST.noise, REQUEST.cond)
            except RuntimeFailure as error:
                said.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        wait_for(held)
        slow.close()
        thread.join()
        assert len(said) == 1 and "expected to stay open during a call, got closed" in said[0]

    def test_another_wakeup_file_still_hears_of_signals(self, slow: Bundle, held: Path) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing)
        try:
            thread = self.interrupt_at(held)
            with pytest.raises(KeyboardInterrupt):
                slow.velocity(0, 0, REQUEST.noise, REQUEST.cond)
            thread.join()
        finally:
            assert signal.set_wakeup_fd(before) == writing
        assert os.read(reading, 8) == bytes([signal.SIGINT])
        os.close(reading), os.close(writing)


class TestChunkProgress:
    @pytest.mark.parametrize("decode", [BundleDecoder.decode, BundleDecoder.decode_rgb8])
    def test_every_chunk_is_counted_once(self, directory: Path, decode: Callable[..., Any]) -> None:
        seen: list[tuple[int, int]] = []
        with BundleDecoder.open(directory, threads=1) as decoder:
            frames = decode(decoder, LATENTS, lambda done, chunks: seen.append((done, chunks)))
            assert frames.tobytes() == decode(decoder, LATENTS).tobytes()
        assert seen == [(1, 2), (2, 2)]

    def test_what_it_raises_cancels(self, directory: Path) -> None:
        def stop(_done: int, _chunks: int) -> None:
            raise LookupError("enough")

        calls: list[int] = []
        with BundleDecoder.open(directory, threads=1) as decoder:
            with pytest.raises(LookupError, match="enough"), decoder.trace(lambda one: calls.append(one.step)):
                decoder.decode(LATENTS, stop)
            decoder.verify()
        assert calls in ([0], [0, 1])


class TestWorkers:
    def test_threads_beside_workers_are_refused(self, kind: Kind, directory: Path) -> None:
        with pytest.raises(ConfigError, match="threads: expected none beside workers, got 2 and Workers"):
            kind.open(directory, threads=2, workers=Workers(3))

    def test_they_reach_the_runtime(self, directory: Path) -> None:
        with BundleDecoder.open(directory, workers=Workers(threads=3, tasks_per_thread=2)) as decoder:
            assert decoder.threads == 3
        with Bundle.open(directory, workers=Workers(threads=3)) as bundle:
            assert bundle.info.threads == 3


class TestPlaces:
    def test_a_path_that_is_no_utf8(self, kind: Kind, directory: Path, tmp_path: Path) -> None:
        place = tmp_path / os.fsdecode(b"b\xfcndel")
        shutil.copytree(directory, place)
        with kind.open(place, threads=1) as handle:
            handle.verify()

    def test_a_failure_in_such_a_path_can_be_printed(self, kind: Kind, tmp_path: Path) -> None:
        with pytest.raises(BundleError) as caught:
            kind.open(tmp_path / os.fsdecode(b"b\xfcndel"))
        assert b"b\xfcndel" in os.fsencode(str(caught.value))

    def test_a_noexec_mount_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        error = CError(Status.BAD_LIBRARY, b"g.so: could not load: failed to map segment; compile the bundle")
        assert "could not load" in str(as_exception(tmp_path, error))
        flags = os.statvfs(tmp_path)

        class Mounted:
            f_flag = flags.f_flag | os.ST_NOEXEC

        monkeypatch.setattr(os, "statvfs", lambda _: Mounted)
        raised = as_exception(tmp_path, error)
        assert isinstance(raised, RuntimeFailure)
        assert "mounted noexec; copy the bundle to another one, or mount it with exec" in str(raised)
        other = CError(Status.CORRUPT, b"steps.bin: expected this")
        assert str(as_exception(tmp_path, other)) == f"{tmp_path}: steps.bin: expected this"

    def test_a_missing_feature_is_named_in_the_runtimes_own_words(self, tmp_path: Path) -> None:
        """The runtime asks the processor and the kernel: whether /proc is mounted explains nothing."""
        error = CError(Status.WRONG_CPU, b"g.so: its kernels use adx, which this processor does not report")
        assert str(as_exception(tmp_path, error)) == f"{tmp_path}: {error.message.decode()}"
