"""The build file and what a build starts from: every mistake is named with its file and key."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tvm_flow.demo import LATENT_SHAPE, demo_sampler
from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.pipeline.config import load_build_config
from tvm_flow.pipeline.source import load_source, read_sampler
from tvm_flow.shipped import shipped_folder

LEAST = {"prompts": "p.yaml", "recipe": "r.yaml", "output": "out"}


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "build.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestBuildFile:
    def test_the_shipped_one_is_the_demo(self) -> None:
        folder = shipped_folder("calibration")
        config = load_build_config(folder / "demo.yaml")
        assert (config.model, config.target) == ("demo", "host")
        assert config.prompts == folder / "prompts.yaml"
        assert config.prompts.is_file() and config.recipe.is_file()
        assert config.output == folder.parent / "artifacts" / "demo"
        assert config.ranges.parent == config.quantized.parent == config.export.parent == config.bundle.parent
        assert len({config.ranges, config.quantized, config.export, config.bundle}) == 4

    def test_paths_are_relative_to_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "sub").mkdir()
        extra = {
            "model": "m",
            "sampler": "s.yaml",
            "captions": "c",
            "autoencoder": "v",
            "config": "c.json",
            "latent": [4, 1, 2, 3],
            "target": "t.yaml",
        }
        write(tmp_path / "sub", yaml.safe_dump(LEAST | extra | {"output": "../out"}))
        monkeypatch.chdir(tmp_path)
        config = load_build_config(Path("sub/build.yaml"))
        base = tmp_path / "sub"
        assert (config.model, config.target) == (str(base / "m"), str(base / "t.yaml"))
        assert (config.prompts, config.recipe) == (base / "p.yaml", base / "r.yaml")
        assert (config.sampler, config.captions) == (base / "s.yaml", base / "c")
        assert (config.autoencoder, config.config) == (base / "v", base / "c.json")
        assert config.latent == (4, 1, 2, 3)
        assert config.output == tmp_path / "out"

    def test_defaults(self, tmp_path: Path) -> None:
        config = load_build_config(write(tmp_path, yaml.safe_dump(LEAST)))
        assert (config.model, config.target, config.sampler, config.latent) == ("demo", "host", None, None)

    def test_absolute_paths_stay(self, tmp_path: Path) -> None:
        config = load_build_config(write(tmp_path, yaml.safe_dump(LEAST | {"prompts": "/somewhere/p.yaml"})))
        assert config.prompts == Path("/somewhere/p.yaml")

    @pytest.mark.parametrize("key", LEAST)
    def test_a_missing_key_is_named(self, tmp_path: Path, key: str) -> None:
        rest = {name: value for name, value in LEAST.items() if name != key}
        with pytest.raises(ConfigError, match=rf"build\.yaml: missing keys \['{key}'\]"):
            load_build_config(write(tmp_path, yaml.safe_dump(rest)))

    @pytest.mark.parametrize("key", ["recipes", 3, None, 2.5])
    def test_an_unknown_key_is_named(self, tmp_path: Path, key: Any) -> None:
        with pytest.raises(ConfigError, match=rf"build\.yaml: unknown keys \['{key}'\]"):
            load_build_config(write(tmp_path, yaml.safe_dump(LEAST | {key: 1}, sort_keys=False)))

    @pytest.mark.parametrize(
        "key", ["prompts", "recipe", "output", "model", "target", "sampler", "captions", "autoencoder", "config"]
    )
    @pytest.mark.parametrize("value", [None, 3, ["a"], {}, ""])
    def test_what_is_no_text_is_named(self, tmp_path: Path, key: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=rf"build\.yaml: {key}: expected text, got {re.escape(repr(value))}"):
            load_build_config(write(tmp_path, yaml.safe_dump(LEAST | {key: value})))

    @pytest.mark.parametrize(
        "latent",
        [3, [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 0], [1, 2, 3, -4], [1, 2, 3, 4.0], [1, 2, 3, True], "4,1,2,3"],
    )
    def test_a_latent_has_four_positive_sizes(self, tmp_path: Path, latent: Any) -> None:
        message = re.escape(f"latent: expected four positive sizes [C, T, H, W], got {latent!r}")
        with pytest.raises(ConfigError, match=message):
            load_build_config(write(tmp_path, yaml.safe_dump(LEAST | {"latent": latent})))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("prompts: [", "expected a readable YAML build file"),
            (b"\xff\xfe\xfa", "expected a readable YAML build file"),
            ("- prompts", "expected a mapping .* got list"),
            ("", "expected a mapping .* got NoneType"),
            ("a: !!python/object:os.system x", "expected a readable YAML build file"),
        ],
    )
    def test_what_is_no_mapping_is_named(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        with pytest.raises(ConfigError, match=rf"build\.yaml: {message}"):
            load_build_config(write(tmp_path, text))

    def test_its_constructor_refuses_what_the_file_may_not_hold(self, tmp_path: Path) -> None:
        config = load_build_config(write(tmp_path, yaml.safe_dump(LEAST)))
        for wrong in ({"latent": (4, 3, 2.0, 2)}, {"target": ""}, {"prompts": "p.yaml"}):
            with pytest.raises(ConfigError, match=f"build: {next(iter(wrong))}: expected"):
                replace(config, **wrong)

    def test_an_absent_file_is_named(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.yaml", tmp_path):
            with pytest.raises(ConfigError, match=re.escape(f"{path}: expected a readable YAML build file")):
                load_build_config(path)


class TestSource:
    def test_the_demo_needs_nothing(self) -> None:
        source = load_source()
        assert source.sampler == demo_sampler()
        assert source.latent == LATENT_SHAPE
        tokens, mask = source.embed(["a red bag moving up"])
        assert tokens.shape[:2] == mask.shape
        assert not source.model.training

    @pytest.mark.parametrize("given", ["sampler", "latent", "autoencoder", "config"])
    def test_the_demo_takes_no_other(self, given: str) -> None:
        value: Any = (8, 8, 8, 8) if given == "latent" else Path("x")
        with pytest.raises(ConfigError, match=f"model demo: expected no {given}"):
            load_source(**{given: value})

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            ({}, "sampler, latent, captions"),
            ({"sampler": Path("s")}, "latent, captions"),
            ({"sampler": Path("s"), "latent": (1, 1, 1, 1)}, "captions"),
        ],
    )
    def test_another_model_needs_all(self, given: dict[str, Any], missing: str) -> None:
        with pytest.raises(ConfigError, match=f"model other: expected {missing} beside it"):
            load_source("other", **given)

    def test_an_absent_checkpoint_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(demo_sampler().to_dict()))
        with pytest.raises(CheckpointError, match="absent"):
            load_source(str(tmp_path / "absent"), tmp_path / "s.yaml", (8, 8, 8, 8), tmp_path)

    def test_a_checkpoint_without_a_config_takes_one(self, tmp_path: Path) -> None:
        from tvm_flow.demo import WEIGHTS

        (tmp_path / "s.yaml").write_text(yaml.safe_dump(demo_sampler().to_dict()))
        (tmp_path / "model.safetensors").symlink_to(WEIGHTS / "model.safetensors")
        given = (str(tmp_path), tmp_path / "s.yaml", LATENT_SHAPE, WEIGHTS)
        with pytest.raises(CheckpointError, match="give the config"):
            load_source(*given)
        assert load_source(*given, config=WEIGHTS / "config.json").model.config == load_source().model.config

    def test_another_model_is_read_like_the_demo(self, tmp_path: Path) -> None:
        from tvm_flow.demo import WEIGHTS

        (tmp_path / "s.yaml").write_text(yaml.safe_dump(demo_sampler().to_dict()))
        source, demo = load_source(str(WEIGHTS), tmp_path / "s.yaml", (8, 4, 8, 8), WEIGHTS), load_source()
        assert (source.sampler, source.latent) == (demo.sampler, (8, 4, 8, 8))
        for key, value in demo.model.state_dict().items():
            assert torch.equal(source.model.state_dict()[key], value), key


class TestSampler:
    def test_round_trip(self, tmp_path: Path) -> None:
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(demo_sampler().to_dict()))
        assert read_sampler(tmp_path / "s.yaml") == demo_sampler()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[", "expected a readable YAML"),
            ("- 1", "expected a mapping"),
            ("", "expected a mapping"),
            ("speed: 1", "unknown keys .*speed"),
            ("steps: many", "steps: expected a whole number from 1 to 65536, got 'many'"),
            (b"\xff\xff", "expected a readable YAML"),
        ],
    )
    def test_mistakes_name_the_file(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        path = write(tmp_path, text)
        with pytest.raises(ConfigError, match=rf"build\.yaml: .*({message})"):
            read_sampler(path)
