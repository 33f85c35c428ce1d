"""A tiny model's bundle that ends in frames: every decoder call compared, and what is wrong is found."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny_model
from support.stored_figures import as_read_back
from support.tiny_vae import make_vae

from tvm_flow.check.conformance import run_checked
from tvm_flow.check.decoding import DecoderCheck
from tvm_flow.check.machines import ThisProcess
from tvm_flow.check.sampling import PerKernel
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.decoder_build import DecoderLibrary, build_decoder
from tvm_flow.compile.functions import Job
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BitExactError
from tvm_flow.export import Exported, load_exported
from tvm_flow.export.decoder_file import export_decoder
from tvm_flow.opensora import ImageVAE
from tvm_flow.pack import read_decoder, read_golden
from tvm_flow.run import BundleDecoder, TracedCall
from tvm_flow.target.spec import load_target

pytestmark = pytest.mark.usefixtures("kernels_once")
FRAMES = tiny_model.LATENT[1]


@pytest.fixture(scope="module")
def module() -> ImageVAE:
    return make_vae()


@pytest.fixture(scope="module")
def exported(exporter: Callable[[str], Any], module: ImageVAE, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("ending") / "export"
    shutil.copytree(exporter("w8a8")[1].folder, folder)
    export_decoder(module, tiny_model.LATENT, folder)
    return load_exported(folder)


@pytest.fixture(scope="module")
def compiled(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    output = tmp_path_factory.mktemp("frames") / "bundle"
    return compile_bundle(exported, load_target("host"), output, CompileOptions(threads=1, progress=False))


@pytest.fixture(scope="module")
def library(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> DecoderLibrary:
    folder = tmp_path_factory.mktemp("library")
    job = Job(exported, load_target("host"), folder / "bundle", ThisProcess(), CompileOptions(progress=False))
    built = build_decoder(job, folder)
    assert built is not None
    return built


class TestBundle:
    def test_every_call_was_compared(self, compiled: Compiled, library: DecoderLibrary) -> None:
        assert compiled.decoder is not None
        assert compiled.decoder["calls"] == FRAMES * len(library.library.packed.program.calls) > 30
        assert compiled.decoder["floats"] > 0 < compiled.decoder["constants"]
        assert compiled.decoder["worst_float"] <= 1
        assert compiled.decoder["onnx_distance"] < 1e-4

    def test_frames_are_those_of_the_autoencoder(self, compiled: Compiled, module: ImageVAE) -> None:
        latents = read_golden(compiled.bundle).latents
        want = module.decode(torch.from_numpy(latents)[None], FRAMES)[0].numpy()
        for threads in (1, 3):
            with BundleDecoder.open(compiled.bundle, threads=threads) as decoder:
                decoder.verify()
                frames = decoder.decode(latents)
            assert frames.shape == want.shape == (3, 6, 4, 3)
            assert want.std() > 0.01
            np.testing.assert_allclose(frames, want, atol=1e-4)

    def test_golden_frames_are_named(self, compiled: Compiled) -> None:
        index = read_decoder(compiled.bundle)
        with BundleDecoder.open(compiled.bundle) as decoder:
            frames = decoder.decode(read_golden(compiled.bundle).latents)
        assert index is not None and index.golden_sha256 == hashlib.sha256(frames.tobytes()).digest()

    def test_it_is_current_afterwards(self, compiled: Compiled, exported: Exported) -> None:
        before = (compiled.bundle / "decoder.bin").stat().st_mtime_ns
        again = compile_bundle(exported, load_target("host"), compiled.bundle, CompileOptions(progress=False))
        assert again == as_read_back(compiled)
        assert (compiled.bundle / "decoder.bin").stat().st_mtime_ns == before

    def test_equal_blocks_share_kernels(self, library: DecoderLibrary) -> None:
        program = library.library.packed.program
        assert len(program.kernels) < len(program.calls)
        assert library.library.plan.inputs == (0,)
        assert library.library.plan.step_bytes == library.library.plan.variant_floats == 0


def traced(compiled: Compiled) -> tuple[list[TracedCall], Any, Any]:
    """Calls with their own memory, latents, and frames."""
    seen: list[TracedCall] = []
    latents = read_golden(compiled.bundle).latents

    def keep(call: TracedCall) -> None:
        seen.append(replace(call, args=tuple(a.copy() for a in call.args)))

    with BundleDecoder.open(compiled.bundle, threads=1) as decoder, decoder.trace(keep):
        frames = decoder.decode(latents)
    return seen, latents, frames


class TestCheck:
    def test_lost_repeated_and_strange_calls(self, compiled: Compiled, library: DecoderLibrary) -> None:
        calls, latents, frames = traced(compiled)
        check = DecoderCheck(library.library, library.exported, latents)
        check.see(calls[0])
        with pytest.raises(BitExactError, match="expected call 1 of decoder, chunk 0, got call 0 of decoder, chunk 0"):
            check.see(calls[0])
        with pytest.raises(BitExactError, match="expected call 1 of decoder, chunk 0, got call 2 of decoder, chunk 0"):
            check.see(calls[2])
        with pytest.raises(BitExactError, match="expected kernel"):
            check.see(replace(calls[1], kernel="other"))
        with pytest.raises(BitExactError, match=f"expected {len(calls)} kernel calls, got 1"):
            check.finish(frames)

    def test_one_wrong_number(self, compiled: Compiled, library: DecoderLibrary) -> None:
        calls, latents, _ = traced(compiled)
        for position in (0, len(calls) // 2, len(calls) - 1):
            check = DecoderCheck(library.library, library.exported, latents)
            for call in calls[:position]:
                check.see(call)
            wrong = calls[position].args[-1].copy()
            wrong.flat[wrong.size // 2] += 0.1
            with pytest.raises(BitExactError, match=f"chunk {calls[position].step}, call {calls[position].call}"):
                check.see(replace(calls[position], args=(*calls[position].args[:-1], wrong)))

    def test_an_input_that_nobody_wrote(self, compiled: Compiled, library: DecoderLibrary) -> None:
        calls, latents, _ = traced(compiled)
        with pytest.raises(BitExactError, match=r"decoder, chunk 0, call 0, .*tensor latents"):
            DecoderCheck(library.library, library.exported, latents + np.float32(1)).see(calls[0])

    def test_frames_that_the_last_call_did_not_write(self, compiled: Compiled, library: DecoderLibrary) -> None:
        calls, latents, frames = traced(compiled)
        check = DecoderCheck(library.library, library.exported, latents)
        for call in calls:
            check.see(call)
        with pytest.raises(BitExactError, match="frames"):
            check.finish(1 - frames)
        check.finish(frames)
        assert check.report.calls == len(calls)

    def test_another_graph_than_was_compiled(self, compiled: Compiled, library: DecoderLibrary, tmp_path: Path) -> None:
        """Every kernel may be right and the import wrong: onnx's evaluator decides."""
        other = make_vae()
        other.module.decoder.conv_out.weight *= -1
        wrong = export_decoder(other, tiny_model.LATENT, tmp_path)
        check = DecoderCheck(library.library, wrong, read_golden(compiled.bundle).latents)
        run_checked(ThisProcess(), compiled.bundle, check, (-1, 6, 4, 3), 1, progress=False)
        with pytest.raises(BitExactError, match=r"within 0\.001 of onnx's evaluation"):
            check.distance()


def test_a_sample_compares_every_kernel_of_the_first_chunk_and_follows_the_rest(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = CompileOptions(threads=1, check=PerKernel(1))
    report = compile_bundle(exported, load_target("host"), tmp_path / "bundle", options).decoder
    assert report is not None and report["onnx_distance"] is None
    assert report["calls"] < report["followed"] and report["constants"] > 0
    with BundleDecoder.open(tmp_path / "bundle") as decoder:
        decoder.verify()
    said = capsys.readouterr().err
    for words in ("compile steps", "compile decoder", "check generate on this machine", "check decode on this machine"):
        assert f"{words}: 100%" in said
