"""Calibration and evaluation over workers: a prompt, or a batch of videos, is one task.

What a task needs is read where it runs, from the same paths: the checkpoint with its config, sampler and prompt
embeddings, and for `evaluate` prompt set, outliers, weights of metrics and recipes that are files. A copy on each
machine does, or a shared disk; what comes back travels over the scheduler's connections, and only the asking process
writes. A worker whose files or whose tvm_flow differ refuses its task by the name of what differs (`_alike`).

The bits are those of one process: calibration computes with the model's own number of threads
(`tvm_flow.numerics.thread_count`), evaluation with that of the asking process, and neither the join of ranges nor the
lines of a batch depend on who was first. Another kind of CPU may round float32 sums otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import socket
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tvm_flow.calibrate import CalibrationPrompt, Ranges, model_sha256
from tvm_flow.calibrate.partial import Partial
from tvm_flow.calibrate.run import Shards as CalibrationShards
from tvm_flow.calibrate.run import trajectory_ranges
from tvm_flow.cluster import Workers, connected, results
from tvm_flow.errors import ClusterError
from tvm_flow.pipeline.evaluating import EvaluationRequest, make_work
from tvm_flow.pipeline.source import Source, SourceFiles
from tvm_flow.quality.trials import Lacking, Work
from tvm_flow.quality.trials import Shards as TrialShards
from tvm_flow.scratch import temporary_folder
from tvm_flow.sources import sources_sha256

Lines = list[dict[str, object]]


@dataclass(frozen=True)
class Setting:
    """What a worker starts from: files, the captions that it will read, and what it has to find in them."""

    files: SourceFiles
    texts: tuple[str, ...]
    threads: int
    expected: tuple[tuple[str, str], ...] = ()


def calibration_shards(
    workers: Workers, files: SourceFiles, source: Source, prompts: Sequence[CalibrationPrompt]
) -> CalibrationShards:
    """For `calibrate` of ``source``, which was loaded from ``files``, on ``prompts``."""
    setting = _setting(files, source, prompts)

    def shards(prompts: Sequence[CalibrationPrompt]) -> Generator[Ranges]:
        with connected(workers) as client:
            tasks = [(setting, prompt) for prompt in prompts]
            with closing(results(client, prompt_ranges, tasks)) as found:
                yield from found

    return shards


def trial_shards(workers: Workers, files: SourceFiles, source: Source, request: EvaluationRequest) -> TrialShards:
    """For `evaluate` of ``source``, which was loaded from ``files``; raises ClusterError for a bundle beside it."""
    if request.bundle is not None:
        raise ClusterError(f"{request.bundle}: expected no bundle beside workers, which only simulate; leave one out")
    setting = _setting(files, source, [CalibrationPrompt(pair.prompt, pair.seed) for pair in request.pairs])
    asked = _absolute(request)

    def shards(todo: Sequence[Lacking]) -> Generator[Lines]:
        with connected(workers) as client:
            tasks = [(setting, asked, lacking) for lacking in todo]
            with closing(results(client, batch_lines, tasks)) as found:
                for lines in found:
                    yield from lines

    return shards


def prompt_ranges(task: tuple[Setting, CalibrationPrompt]) -> Ranges:
    """The ranges of one prompt; runs in a worker."""
    setting, prompt = task
    source = _source(setting)
    with temporary_folder("ranges") as folder:  # an unfinished prompt is begun again, by whoever gets it
        wanted = Ranges(model_sha256(source.model), source.sampler, source.latent, (), {})
        partial = Partial(folder / "ranges", wanted)
        return trajectory_ranges(source.model, prompt, source.embed([prompt.text]), partial)


def batch_lines(task: tuple[Setting, EvaluationRequest, Lacking]) -> list[Lines]:
    """The lines of each recipe that a batch lacks; runs in a worker."""
    setting, request, lacking = task
    work = _work(setting, request)
    for name, key in lacking.keys.items():
        if work.keys[name] != key:
            raise _other(f"recipe {name}, with prompt set, outliers and metrics", key, work.keys[name])
    return list(work.of(lacking))


def _setting(files: SourceFiles, source: Source, prompts: Sequence[CalibrationPrompt]) -> Setting:
    texts = tuple(dict.fromkeys(prompt.text for prompt in prompts))
    return Setting(files.absolute(), texts, torch.get_num_threads(), _alike(source, texts))


def _absolute(request: EvaluationRequest) -> EvaluationRequest:
    """The same from any working folder: of recipes, those that are files."""
    recipes = tuple(str(Path(name).absolute()) if Path(name).is_file() else name for name in request.recipes)
    outliers = None if request.outliers is None else request.outliers.absolute()
    metrics = tuple(metric.absolute() for metric in request.metrics)
    calibration = request.calibration.absolute()
    return replace(request, recipes=recipes, outliers=outliers, calibration=calibration, metrics=metrics)


def _alike(source: Source, texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """By name, the digest of what must be the same everywhere."""
    tokens, mask = source.embed(list(texts))
    captions = hashlib.sha256(tokens.contiguous().numpy().tobytes() + mask.contiguous().numpy().tobytes())
    return (
        ("tvm_flow", sources_sha256(__name__)),
        ("model", model_sha256(source.model)),
        ("sampler", hashlib.sha256(repr((source.sampler, source.latent)).encode()).hexdigest()),
        ("prompt embeddings", captions.hexdigest()),
    )


@functools.lru_cache(maxsize=1)
def _source(setting: Setting) -> Source:
    torch.set_num_threads(setting.threads)
    source = setting.files.load()
    for (name, wanted), (_, found) in zip(setting.expected, _alike(source, setting.texts), strict=True):
        if wanted != found:
            raise _other(name, wanted, found)
    return source


@functools.lru_cache(maxsize=1)
def _work(setting: Setting, request: EvaluationRequest) -> Work:
    return make_work(_source(setting), request, progress=False)


def _other(name: str, wanted: str, found: str) -> ClusterError:
    return ClusterError(
        f"worker on {socket.gethostname()}: {name}: expected the asking process's ({wanted[:12]}), got {found[:12]}; "
        "copy it there, and start the worker again"
    )
