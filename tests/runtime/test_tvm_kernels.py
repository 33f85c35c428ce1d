"""Kernels that TVM compiled run in the C runtime: calling convention, parallel loops, workspace, raised errors."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import toy_bundle

from tvm_flow.errors import RuntimeFailure
from tvm_flow.pack import Contents, Golden, Group, Prompt, Variant, write_bundle
from tvm_flow.run import Bundle

SHAPE = (64, 256)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The bare object files of both kernels."""
    tvm = pytest.importorskip("tvm")
    from tvm.script import ir as I
    from tvm.script import tirx as T

    @I.ir_module
    class Kernels:
        @T.prim_func
        def doubled(A: T.Buffer((64, 256), "float32"), B: T.Buffer((64, 256), "float32")):  # noqa: N805
            T.func_attr({"global_symbol": "doubled", "tirx.noalias": True})
            for i in T.parallel(64):
                for j in range(256):
                    B[i, j] = A[i, j] * T.float32(2)

        @T.prim_func
        def reversed(A: T.Buffer((64, 256), "float32"), B: T.Buffer((64, 256), "float32")):  # noqa: N805
            T.func_attr({"global_symbol": "reversed", "tirx.noalias": True})
            whole = T.alloc_buffer((64, 256), "float32")
            for i in range(64):
                for j in range(256):
                    whole[i, 255 - j] = A[i, j]
            for i in range(64):
                for j in range(256):
                    B[i, j] = whole[i, j]

    folder = tmp_path_factory.mktemp("tvm")
    tvm.compile(Kernels, target=tvm.target.Target("llvm")).export_library(str(folder / "kernels.tar"))
    subprocess.run(["tar", "xf", "kernels.tar"], cwd=folder, check=True)
    found = sorted(folder.glob("*.o"))
    symbols = subprocess.run(["nm", *map(str, found)], capture_output=True, text=True, check=True).stdout
    for needed in ("__TVMBackendParallelLaunch", "__TVMBackendAllocWorkspace", "TVMFFIErrorSetRaisedFromCStrParts"):
        assert needed in symbols, "the kernels must use every hook, or this test shows nothing"
    return found


def pack(folder: Path, objects: list[Path], *flags: str) -> Path:
    sources = [toy_bundle.SOURCES / "tvm_group.c", *objects]
    # Hidden, or the services would give way to those of libtvm in a process that has loaded it, like this one.
    hidden = ["-shared", "-fPIC", "-fvisibility=hidden"]
    library = toy_bundle.compile_c(folder / "group.so", sources, *hidden, *flags)
    nothing = np.zeros(0, np.float32)
    prompt = Prompt(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    z = np.zeros(SHAPE, np.float32)
    contents = Contents(
        weights=b"",
        groups=[Group("group", library, 0)],
        sampler={},
        timesteps=[1000.0],
        updates=np.array([[1.0, 1.0, 0.0, 0.0, 0.0]]),
        cfg_scale=1.0,
        guided_channels=0,
        output_channels=SHAPE[0],
        latent_shape=SHAPE,
        text_tokens=1,
        text_channels=1,
        step_records=np.zeros((1, 0), np.float32),
        variants=[[Variant(0, nothing)]],
        target={"name": "host"},
        provenance={},
        golden=Golden(z, prompt, prompt, z),
    )
    write_bundle(folder / "b", contents)
    return folder / "b"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tvm_kernels_run(tmp_path: Path, objects: list[Path], threads: int) -> None:
    z = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    prompt = Prompt(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    with Bundle.open(pack(tmp_path, objects), threads=threads) as bundle:
        bundle.verify()
        for _ in range(10):
            np.testing.assert_array_equal(bundle.velocity(0, 0, z, prompt), 2 * z[:, ::-1])


def test_what_tvm_raises_is_the_message(tmp_path: Path, objects: list[Path]) -> None:
    """The kernel's own check of its argument's shape fails, and its words arrive."""
    prompt = Prompt(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    bundle_dir = pack(tmp_path, objects, "-DTVM_ROWS=32")
    message = r"call 0: kernel doubled: expected 0, got -1: ValueError: .*B.*shape"
    with Bundle.open(bundle_dir) as bundle, pytest.raises(RuntimeFailure, match=message):
        bundle.velocity(0, 0, np.zeros(SHAPE, np.float32), prompt)
