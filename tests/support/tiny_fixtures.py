"""Exports, a library and bundles of the tiny model, each made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from support import tiny_model
from support.kernels_once import compiled_once
from support.tiny_vae import make_vae
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.library import build_library
from tvm_flow.compile.options import CompileOptions, Emit
from tvm_flow.export import Exported, load_exported
from tvm_flow.export.decoder_file import export_decoder
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.quantize.quantized import QuantizedModel
from tvm_flow.target.spec import TargetSpec, load_target

Exporter = Callable[[str], tuple[QuantizedModel, Exported]]
Compiler = Callable[[str, str], Compiled]


@pytest.fixture(scope="session")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """(quantized, exported) of a recipe's name."""
    folder = tmp_path_factory.mktemp("tiny")
    ranges = tiny_model.make_ranges(folder)
    return cache(lambda recipe: tiny_model.make_export(ranges, recipe, folder))


@pytest.fixture(scope="session")
def exported(exporter: Exporter) -> Exported:
    return exporter("w8a8")[1]


@pytest.fixture(scope="session")
def host() -> TargetSpec:
    return load_target("host")


@pytest.fixture(scope="session")
def weights() -> WeightStore:
    """What `library` put its shared constants into."""
    return WeightStore()


@pytest.fixture(scope="session")
def library(
    exported: Exported, host: TargetSpec, weights: WeightStore, tmp_path_factory: pytest.TempPathFactory
) -> GroupLibrary:
    (group,) = import_steps(exported.graphs, progress=False)
    with compiled_once():
        return build_library(group, exported, host, weights, tmp_path_factory.mktemp("library") / "group0.so")


@pytest.fixture(scope="session")
def compiler(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """The checked bundle of a recipe's and a target's name."""
    folder = tmp_path_factory.mktemp("compiled")

    def compile_one(recipe: str, target: str) -> Compiled:
        output: Path = folder / f"{Path(recipe).name}.{target}"
        options = CompileOptions(threads=1, progress=False)
        with compiled_once():
            return compile_bundle(exporter(recipe)[1], load_target(target), output, options)

    return cache(compile_one)


@pytest.fixture(scope="session")
def static_bundle(exporter: Exporter, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups for this machine, with archives to link a program with."""
    output = tmp_path_factory.mktemp("static") / "bundle"
    options = CompileOptions(threads=1, progress=False, emit=Emit.STATIC)
    with compiled_once():
        compile_bundle(exporter("w8a8_first_float")[1], host, output, options)
    return output


@pytest.fixture(scope="session")
def ending_export(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Two groups, and a decoder."""
    folder = tmp_path_factory.mktemp("ending") / "export"
    shutil.copytree(exporter("w8a8_first_float")[1].folder, folder)
    export_decoder(make_vae(), tiny_model.LATENT, folder)
    return load_exported(folder)


@pytest.fixture(scope="session")
def ending_bundle(ending_export: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `static_bundle`, ending in frames."""
    output = tmp_path_factory.mktemp("ending") / "bundle"
    with compiled_once():
        compile_bundle(ending_export, host, output, CompileOptions(threads=1, progress=False, emit=Emit.STATIC))
    return output
