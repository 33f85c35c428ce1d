"""What workers calibrate and evaluate together has the bits of one process, whoever of them dies meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from distributed import Client
from safetensors.torch import save_file
from support.tiny_model import CONFIG, LATENT, SAMPLER, make_model

from tvm_flow.calibrate import CalibrationPrompt, Ranges, load_prompts
from tvm_flow.cli import main
from tvm_flow.cluster import Workers, connected
from tvm_flow.errors import ClusterError
from tvm_flow.opensora import save_embeddings
from tvm_flow.pipeline import sharding
from tvm_flow.pipeline.evaluating import EvaluationRequest, evaluate_stage
from tvm_flow.pipeline.source import Source, SourceFiles
from tvm_flow.pipeline.stages import calibrate_stage
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.trials import crossed

TEXTS = tuple(f"prompt {k}" for k in range(5))


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A checkpoint with what goes with it, on disk and loaded."""

    files: SourceFiles
    prompts: Path
    source: Source


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    save_file(make_model().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    (folder / "sampler.yaml").write_text(json.dumps(SAMPLER.to_dict()))
    tokens = torch.randn(len(TEXTS), 6, 8, generator=torch.Generator().manual_seed(0))
    save_embeddings(folder / "captions.safetensors", TEXTS, tokens, torch.tensor([3, 4, 5, 6, 1]))
    (folder / "prompts.yaml").write_text(f"prompts: {json.dumps(TEXTS)}\n")
    files = SourceFiles(str(folder), folder / "sampler.yaml", LATENT, folder / "captions.safetensors")
    return Tiny(files, folder / "prompts.yaml", files.load())


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connected(Workers(2)) as client:
        yield client


def at(client: Client) -> Workers:
    return Workers(scheduler=client.scheduler.address)


def test_ranges_are_those_of_one_process_though_a_worker_is_killed(
    tiny: Tiny, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, shared = tmp_path / "whole.safetensors", tmp_path / "shared.safetensors"
    calibrate_stage(tiny.source, tiny.prompts, whole)
    shards = sharding.calibration_shards(at(client), tiny.files, tiny.source, load_prompts(tiny.prompts))

    def with_a_loss(prompts: Sequence[CalibrationPrompt]) -> Iterator[Ranges]:
        for number, ranges in enumerate(shards(prompts)):
            if number == 0:
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
            yield ranges

    monkeypatch.chdir(tmp_path)
    calibrate_stage(tiny.source, tiny.prompts, shared, lambda prompts: (yield from with_a_loss(prompts)))
    assert shared.read_bytes() == whole.read_bytes()


def test_scores_are_those_of_one_process(tiny: Tiny, client: Client, tmp_path: Path) -> None:
    request = EvaluationRequest(
        ("static-w8a8",), tuple(crossed(TEXTS, [3])), tiny.prompts, tmp_path / "a.jsonl", None, 2
    )
    assert evaluate_stage(tiny.source, request, progress=False) == 10
    shared = dataclasses.replace(request, output=tmp_path / "b.jsonl")
    shards = sharding.trial_shards(at(client), tiny.files, tiny.source, shared)
    assert evaluate_stage(tiny.source, shared, False, shards) == 10
    assert sorted(map(str, read_lines(shared.output))) == sorted(map(str, read_lines(request.output)))
    assert evaluate_stage(tiny.source, shared, False, shards) == 0


@pytest.mark.parametrize("name", ["tvm_flow", "model", "sampler", "prompt embeddings"])
def test_a_worker_with_something_else_refuses_by_its_name(tiny: Tiny, name: str) -> None:
    setting = sharding._setting(tiny.files, tiny.source, load_prompts(tiny.prompts))
    assert name in dict(setting.expected)
    expected = tuple({**dict(setting.expected), name: "0" * 64}.items())
    other = dataclasses.replace(setting, expected=expected)
    with pytest.raises(ClusterError, match=rf"worker on .*: {name}: expected the asking process's \(000000000000\)"):
        sharding.prompt_ranges((other, CalibrationPrompt(TEXTS[0], 1)))


def test_a_bundle_is_not_tried_by_workers(tiny: Tiny, tmp_path: Path) -> None:
    request = EvaluationRequest((), (), tiny.prompts, tmp_path / "o", bundle=tmp_path / "bundle")
    with pytest.raises(ClusterError, match="bundle: expected no bundle beside workers"):
        sharding.trial_shards(Workers(), tiny.files, tiny.source, request)


def test_the_command_shares_prompts_among_processes(
    tiny: Tiny, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, output, asked = tiny.files, tmp_path / "ranges.safetensors", []

    def there(workers: Workers) -> AbstractContextManager[Client]:
        asked.append(workers)
        return nullcontext(client)

    monkeypatch.setattr(sharding, "connected", there)
    given = ["--model", files.model, "--sampler", str(files.sampler), "--latent", ",".join(map(str, LATENT))]
    given += ["--captions", str(files.captions), "--prompts", str(tiny.prompts), "--output", str(output)]
    assert main(["calibrate", *given, "--workers", "3"]) == 0
    assert capsys.readouterr().out == f"ranges: {output}\n" and asked == [Workers(3)]
    with pytest.raises(SystemExit):
        main(["calibrate", *given, "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"])
