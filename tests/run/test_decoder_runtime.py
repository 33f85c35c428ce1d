"""The decoder in the C runtime: frames in order, bytes rounded, chunks, and a typed error for everything else."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy_decoder

from tvm_flow.errors import BundleError, NotFiniteError, RuntimeFailure
from tvm_flow.pack import Contents, read_golden, write_bundle
from tvm_flow.pack.decoder import GROUP, HEADER
from tvm_flow.run import Bundle, BundleDecoder, TracedCall
from tvm_flow.run.native import COptions, load_runtime
from tvm_flow.run.status import CError, Status


@pytest.fixture(scope="module", params=[1, 2])
def decoding(contents: Contents, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Path:
    """The toy bundle with a decoder of one or two latent frames at a time."""
    folder = tmp_path_factory.mktemp("decoder")
    library = toy_decoder.compile_decoder(folder / "toy.so", request.param)
    write_bundle(folder / "b", toy_decoder.with_decoder(contents, library, request.param))
    return folder / "b"


@pytest.fixture
def decoder(decoding: Path) -> Iterator[BundleDecoder]:
    with BundleDecoder.open(decoding, threads=2) as opened:
        yield opened


@pytest.fixture
def latents() -> Any:
    return np.random.default_rng(5).standard_normal((4, 2, 2, 2)).astype(np.float32)


class TestDecode:
    def test_shapes(self, decoder: BundleDecoder) -> None:
        assert decoder.latent_shape == (4, 2, 2, 2)
        assert decoder.video_shape == (4, 2, 2, 3)
        assert (decoder.threads, decoder.arena_bytes) == (2, 4096)

    def test_frames_bit_for_bit_and_again(self, decoder: BundleDecoder, latents: Any) -> None:
        for scale in (1, -3):
            expected = toy_decoder.decode(latents * np.float32(scale))
            assert decoder.decode(latents * np.float32(scale)).tobytes() == expected.tobytes()

    def test_strided_latents_are_read_as_they_look(self, decoder: BundleDecoder, latents: Any) -> None:
        turned = latents.transpose(0, 1, 3, 2)
        assert decoder.decode(turned).tobytes() == toy_decoder.decode(np.ascontiguousarray(turned)).tobytes()

    def test_bytes_are_rounded_to_nearest_even_and_saturate(self, decoder: BundleDecoder) -> None:
        latents = np.zeros((4, 2, 2, 2), np.float32)
        wanted = np.array([0.5, 1.5, 2.5, 254.5, 255.4, 255.6, 1e30, -1.0], np.float32) / 255
        latents[2] = wanted.reshape(2, 2, 2) / 2
        frames = decoder.decode_rgb8(latents)
        assert frames.dtype == np.uint8
        exact = decoder.decode(latents)[::2, :, :, 2].ravel() * np.float32(255)
        assert frames[::2, :, :, 2].ravel().tolist() == np.rint(np.clip(exact, 0, 255)).tolist()

    def test_a_frame_that_is_no_number_ends_it_with_the_chunk_and_the_kernel(self, decoder: BundleDecoder) -> None:
        latents, chunks, shown = np.zeros((4, 2, 2, 2), np.float32), 2 // decoder.chunk, list[int]()
        latents[2, 1, 1, 0] = np.finfo(np.float32).max
        for decode in (decoder.decode, decoder.decode_rgb8):
            words = f"chunk {chunks - 1}, frames: expected finite numbers, got inf .*first kernel .* is toy_decode at"
            with pytest.raises(NotFiniteError, match=words):
                decode(latents, lambda done, _: shown.append(done))
        assert shown == [*range(1, chunks)] * 2, "the run that looks for the kernel shows no progress"
        latents[2, 1, 1, 0] = np.nan
        with pytest.raises(NotFiniteError, match=r"frames: .*got nan .*no kernel makes one of numbers: look at"):
            decoder.decode(latents)

    def test_golden_frames(self, decoder: BundleDecoder, decoding: Path) -> None:
        decoder.verify()
        assert (
            decoder.decode(read_golden(decoding).latents).tobytes()
            == toy_decoder.decode(read_golden(decoding).latents).tobytes()
        )

    def test_beside_an_open_bundle(self, decoder: BundleDecoder, decoding: Path, latents: Any) -> None:
        with Bundle.open(decoding, threads=1) as bundle:
            bundle.verify()
            assert decoder.decode(latents).tobytes() == toy_decoder.decode(latents).tobytes()
            bundle.verify()


class TestTrace:
    def test_every_call_with_its_chunk(self, decoder: BundleDecoder, latents: Any) -> None:
        seen: list[tuple[int, int, str]] = []
        inputs: list[Any] = []

        def see(call: TracedCall) -> None:
            seen.append((call.step, call.call, call.kernel))
            inputs.append(call.args[0].copy())

        with decoder.trace(see):
            decoder.decode(latents)
        assert seen == [(chunk, 0, "toy_decode") for chunk in range(2 // decoder.chunk)]
        assert np.concatenate(inputs, 1).tobytes() == latents.tobytes()
        decoder.decode(latents)
        assert len(seen) == 2 // decoder.chunk, "not after the block"

    def test_blocks_that_overlap_end_by_themselves(self, decoder: BundleDecoder, latents: Any) -> None:
        first, second = list[TracedCall](), list[TracedCall]()
        one, two = decoder.trace(first.append), decoder.trace(second.append)
        one.__enter__()
        two.__enter__()
        decoder.decode(latents)
        assert (len(first), len(second)) == (0, 2 // decoder.chunk), "the block entered last"
        one.__exit__(None, None, None)
        decoder.decode(latents)
        assert (len(first), len(second)) == (0, 4 // decoder.chunk)
        two.__exit__(None, None, None)
        decoder.decode(latents)
        assert (len(first), len(second)) == (0, 4 // decoder.chunk), "no block is left"

    def test_what_it_raises_stops(self, decoder: BundleDecoder, latents: Any) -> None:
        def stop(_: TracedCall) -> None:
            raise ZeroDivisionError

        with decoder.trace(stop), pytest.raises(ZeroDivisionError):
            decoder.decode(latents)
        decoder.decode(latents)


class TestErrors:
    def test_other_latents(self, decoder: BundleDecoder, latents: Any) -> None:
        for wrong in (latents[:, :1], latents.astype(np.float64)):
            with pytest.raises(RuntimeFailure, match=r"latents: expected float32 \(4, 2, 2, 2\)"):
                decoder.decode(wrong)

    def test_closed(self, decoding: Path, latents: Any) -> None:
        decoder = BundleDecoder.open(decoding)
        decoder.close()
        decoder.close()
        with pytest.raises(RuntimeFailure, match="got a closed one"):
            decoder.decode(latents)

    def test_a_bundle_without_one(self, bundle_dir: Path) -> None:
        with pytest.raises(BundleError, match="expected a bundle with a decoder, got one without"):
            BundleDecoder.open(bundle_dir)
        assert open_alone(bundle_dir)[0] == Status.FILE_ERROR

    @pytest.mark.parametrize(
        ("macros", "message"),
        [
            ({"inputs": 3}, "inputs 3: expected one: latents"),
            ({"prompt": 64}, "expected no prologue of a decoder"),
            ({"frames": 1}, "output 2: expected as many values as steps.bin says"),
        ],
    )
    def test_a_library_of_other_edges(
        self, contents: Contents, tmp_path: Path, macros: dict[str, int], message: str
    ) -> None:
        library = toy_decoder.compile_decoder(tmp_path / "toy.so", 1, **macros)
        write_bundle(tmp_path / "b", toy_decoder.with_decoder(contents, library))
        with pytest.raises(BundleError, match=message):
            BundleDecoder.open(tmp_path / "b")

    def test_a_step_library_is_no_decoder(self, contents: Contents, tmp_path: Path) -> None:
        write_bundle(tmp_path / "b", toy_decoder.with_decoder(contents, contents.groups[0].library))
        with pytest.raises(BundleError):
            BundleDecoder.open(tmp_path / "b")

    def test_a_kernel_that_fails(self, contents: Contents, tmp_path: Path, latents: Any) -> None:
        library = toy_decoder.compile_decoder(tmp_path / "toy.so", 1, fail=1)
        write_bundle(tmp_path / "b", toy_decoder.with_decoder(contents, library))
        with BundleDecoder.open(tmp_path / "b") as decoder, pytest.raises(RuntimeFailure, match="kernel toy_decode"):
            decoder.decode(latents)

    def test_other_frames_than_the_golden(self, contents: Contents, tmp_path: Path) -> None:
        made = toy_decoder.with_decoder(contents, toy_decoder.compile_decoder(tmp_path / "toy.so"))
        others = np.asarray(contents.golden.latents + 1, np.float32)
        write_bundle(tmp_path / "b", replace(made, golden=replace(made.golden, latents=others)))
        with BundleDecoder.open(tmp_path / "b") as decoder, pytest.raises(BundleError, match="got others"):
            decoder.verify()


def open_alone(bundle: Path) -> tuple[Status, str]:
    """By the C runtime, without the checks that Python makes first."""
    runtime, handle, error = load_runtime(), ctypes.c_void_p(), CError()
    options = COptions(struct_bytes=ctypes.sizeof(COptions), threads=1)
    status = runtime.tvm_flow_decoder_open(
        str(bundle).encode(), ctypes.byref(options), ctypes.byref(handle), ctypes.byref(error)
    )
    if not status:
        runtime.tvm_flow_decoder_close(handle)
    return Status(status), error.message.decode()


class TestDamage:
    """decoder.bin met by the C runtime alone, its digest made to fit where a forger would."""

    @pytest.fixture
    def victim(self, contents: Contents, tmp_path: Path) -> Path:
        toy_decoder.write_decoding(tmp_path / "b", contents)
        assert open_alone(tmp_path / "b") == (Status.OK, "")
        return tmp_path / "b"

    def forge(self, victim: Path, change: Callable[[bytearray], object]) -> tuple[Status, str]:
        data = bytearray((victim / "decoder.bin").read_bytes()[:-32])
        change(data)
        (victim / "decoder.bin").write_bytes(data + hashlib.sha256(data).digest())
        return open_alone(victim)

    def test_every_bit_counts(self, victim: Path) -> None:
        whole = (victim / "decoder.bin").read_bytes()
        for at in range(0, len(whole), 7):
            data = bytearray(whole)
            data[at] ^= 1 << at % 8
            (victim / "decoder.bin").write_bytes(data)
            assert open_alone(victim)[0] in (Status.CORRUPT, Status.WRONG_SCHEMA), at
        for length in (0, 1, HEADER.size, len(whole) - 1):
            (victim / "decoder.bin").write_bytes(whole[:length])
            assert open_alone(victim)[0] == Status.CORRUPT, length

    @pytest.mark.parametrize(
        ("at", "value"),
        [(16, 0), (16, 2**32 - 1), (24, 0), (28, 2**31), (32, 0), (32, 3), (36, 0), (40, 2**30), (48, 4)],
    )
    def test_sizes(self, victim: Path, at: int, value: int) -> None:
        status, message = self.forge(victim, lambda data: struct.pack_into("<I", data, at, value))
        assert status == Status.CORRUPT and "decoder.bin" in message

    @pytest.mark.parametrize(("at", "value"), [(36, 3), (40, 4), (20, 4), (24, 4)])
    def test_sizes_that_the_library_does_not_have(self, victim: Path, at: int, value: int) -> None:
        status, _ = self.forge(victim, lambda data: struct.pack_into("<I", data, at, value))
        assert status in (Status.OK, Status.BAD_LIBRARY)
        assert (status == Status.OK) == (at == 20), "more chunks of the same size are fine"

    @pytest.mark.parametrize("path", [b"../evil.so", b"/etc/passwd", b"", b"lib//x.so", b"x" * 152])
    def test_paths_stay_inside(self, victim: Path, path: bytes) -> None:
        at = HEADER.size + GROUP.size - 152
        status, message = self.forge(victim, lambda data: struct.pack_into("152s", data, at, path))
        assert status == Status.CORRUPT and "inside the bundle" in message

    @pytest.mark.parametrize("name", ["decoder_weights.bin", "lib/toy/decoder.so"])
    def test_other_files(self, victim: Path, name: str) -> None:
        data = bytearray((victim / name).read_bytes())
        data[len(data) // 2] ^= 4
        (victim / name).write_bytes(data)
        assert open_alone(victim)[0] == Status.CORRUPT
        (victim / name).write_bytes(data[:-1])
        assert open_alone(victim)[0] == Status.CORRUPT
        (victim / name).unlink()
        assert open_alone(victim)[0] == Status.FILE_ERROR
