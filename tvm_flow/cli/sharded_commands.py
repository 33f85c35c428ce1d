"""The commands that other processes and machines may help with: calibrate and evaluate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_flow.cluster import Workers
    from tvm_flow.pipeline.source import SourceFiles


def calibrate(arguments: argparse.Namespace) -> None:
    """Write a ranges file, or join several into one."""
    if arguments.merge:
        from tvm_flow.pipeline.stages import merge_stage

        merge_stage(arguments.merge, arguments.output)
    else:
        _calibrate(arguments)
    print(f"ranges: {arguments.output}")


def _calibrate(given: argparse.Namespace) -> None:
    from tvm_flow.calibrate import load_prompts
    from tvm_flow.pipeline.stages import calibrate_stage

    files, workers, shards = source_files(given, None), _workers(given), None
    source = files.load()
    if workers is not None:
        from tvm_flow.pipeline.sharding import calibration_shards

        shards = calibration_shards(workers, files, source, load_prompts(given.prompts))
    calibrate_stage(source, given.prompts, given.output, shards)


def evaluate(arguments: argparse.Namespace) -> None:
    """Try recipes on prompts and seeds, and print what the file holds by then."""
    from tvm_flow.pipeline.asked import read_prompts
    from tvm_flow.pipeline.evaluating import EvaluationRequest, evaluate_stage
    from tvm_flow.quality.field_metrics import asked_metric
    from tvm_flow.quality.field_table import field_text
    from tvm_flow.quality.lines import read_lines
    from tvm_flow.quality.standings import text_table, verdicts
    from tvm_flow.quality.trials import crossed
    from tvm_flow.quantize.named_recipes import recipe_names

    given = arguments
    if given.list_recipes:
        print("\n".join(recipe_names()))
        return
    prompts, seed = read_prompts([], given.prompts, given.seed)
    pairs = crossed(prompts[: given.count], range(seed, seed + given.seeds))
    request = EvaluationRequest(
        *(tuple(given.recipes), tuple(pairs), given.calibration, given.output, given.outliers, given.batch),
        *(given.bundle, tuple(map(asked_metric, given.metric))),
    )
    files, workers, shards = source_files(given, given.autoencoder), _workers(given), None
    source = files.load()
    if workers is not None:
        from tvm_flow.pipeline.sharding import trial_shards

        shards = trial_shards(workers, files, source, request)
    evaluate_stage(source, request, shards=shards)
    found = verdicts(read_lines(given.output))
    print(text_table(found))
    if fields := field_text(found):
        print(fields)
    for verdict in found:
        if "to_simulated_db" in verdict.metrics:
            mean, low, high = verdict.interval("to_simulated_db").rounded(2)
            print(f"{verdict.recipe}: {mean} [{low}, {high}] dB PSNR to the same recipe simulated")
    print(f"scores: {given.output}")


def source_files(given: argparse.Namespace, autoencoder: Path | None) -> SourceFiles:
    """What the arguments name of a model, not loaded yet."""
    from tvm_flow.pipeline.source import SourceFiles

    return SourceFiles(given.model, given.sampler, given.latent, given.captions, autoencoder, given.config)


def _workers(given: argparse.Namespace) -> Workers | None:
    from tvm_flow.cluster import Workers

    if given.workers is None and given.scheduler is None:
        return None
    return Workers(given.workers or 1, given.scheduler)
