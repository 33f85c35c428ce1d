"""The main job on the model that ships: build, generate, and judge int8 against float.

1. build the bundle of `calibration/demo.yaml`'s stages, and one of the first step alone to compare sizes;
2. the contact sheet: float above int8, one row per prompt, equal noise; one video file;
3. clips over the whole caption set from float and from int8, scored by the judge;
4. a table, and what the last line of JSON says.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.compile.command import Compiled
from tvm_flow.demo import demo_sampler, load_captions, load_vae
from tvm_flow.demo.sheet import contact_sheet, write_animation
from tvm_flow.model import AnyModel
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import bundle_bytes
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.pipeline.generate import Generation, generate_latents, noise_for
from tvm_flow.pipeline.source import Source, load_source
from tvm_flow.pipeline.stages import calibrate_stage, compile_stage, quantize_stage
from tvm_flow.quality.evaluation import spread_captions
from tvm_flow.quality.judge import load_judge
from tvm_flow.run import Bundle
from tvm_flow.sampler import SamplerConfig, model_velocity, sample
from tvm_flow.target.target_names import targets_folder

Floats = npt.NDArray[np.float32]
JUDGED_SEED = 10_000
_BATCH = 8


def run_demo(output: Path, clips: int = 200) -> dict[str, Any]:
    """Everything into the folder ``output``; prints a table and returns the figures of the last line.

    Raises BitExactError, BundleError and the like when a stage fails; what earlier stages wrote stays for the next run.
    """
    source = load_source()
    calibration = targets_folder().parent / "calibration"
    prompts = calibration / "prompts.yaml"
    calibrate_stage(source, prompts, output / "ranges.safetensors")
    quantize_stage(
        source, output / "ranges.safetensors", calibration / "recipes" / "w8a8.yaml", output / "quantized.safetensors"
    )
    whole = _bundle(source, prompts, output, "bundle", None)
    one_step = _bundle(source, prompts, output, "one_step_bundle", range(1))
    video, sheet = _show(source, whole.bundle, calibration / "contact_sheet.yaml", output)
    scores = _judge(source, whole.bundle, clips)
    _print_scores(scores, clips, whole)
    print(what_next(whole.bundle, sheet))
    return {
        "steps": source.sampler.steps,
        "groups": whole.groups,
        "bundle_bytes": bundle_bytes(whole.bundle),
        "one_step_bundle_bytes": bundle_bytes(one_step.bundle),
        "bit_exact": all(_is_exact(compiled) for compiled in (whole, one_step)),
        "latent_psnr_db": round(scores["int8"]["psnr"], 2),
        "video": str(video),
        "sheet": str(sheet),
    }


def _is_exact(compiled: Compiled) -> bool:
    """Every kernel call of every step was compared, and the bundle on disk still gives its golden latents."""
    checked = compiled.exactness
    with Bundle.open(compiled.bundle) as bundle:
        bundle.verify()
    return bool(checked["calls"] == checked["expected_calls"] and checked["accumulators"] and checked["quantized"])


def _bundle(source: Source, prompts: Path, output: Path, name: str, steps: range | None) -> Compiled:
    export = output / ("export" if steps is None else f"export_{name}")
    export_stage(source, output / "quantized.safetensors", prompts, export, steps)
    return compile_stage(export, "host", output / name)


def float_latents(
    model: AnyModel, sampler: SamplerConfig, prompts: Sequence[str], noise: Floats, progress: bool = True
) -> Floats:
    """Latents of the float model, [N, C, T, H, W] float32, from ``noise`` of that shape."""
    captions, rows = load_captions(), []
    starts = range(0, len(prompts), _BATCH)
    for start in tqdm(starts, desc="float reference", unit="batch", disable=not progress):
        tokens, mask = captions.batch(list(prompts[start : start + _BATCH]))
        z = torch.from_numpy(noise[start : start + _BATCH])
        rows.append(sample(model_velocity(model, tokens, mask, sampler), z, sampler))
    return torch.cat(rows).numpy()


def what_next(bundle: Path, sheet: Path) -> str:
    """What to do with what the demo wrote."""
    where = shlex.quote(str(bundle))
    return f"""Look at {sheet}: FP32 above int8. Then:
  tvm-flow run "a green bag moving down" --bundle {where}    another video
  tvm-flow compare "a red sneaker moving left" --bundle {where}    dB after each step, for a prompt
  tvm-flow inspect {where}    sizes, memory, target, what was checked
A model of your own: tvm-flow build FILE.yaml, in the README under "A real Open-Sora checkpoint".
"""


def _show(source: Source, bundle: Path, prompt_file: Path, output: Path) -> tuple[Path, Path]:
    prompts = load_prompts(prompt_file)
    texts = [prompt.text for prompt in prompts]
    noise = noise_for(source.latent, [prompt.seed for prompt in prompts])
    exact = float_latents(source.model, source.sampler, texts, noise)
    ours = generate_latents(bundle, texts, noise, source.embed)
    versions = {"FP32": _decode(exact), "int8": _decode(ours)}
    sheet, video = output / "sheet.png", output / "video.gif"
    contact_sheet(sheet, texts, versions)
    write_animation(video, versions["int8"][0], demo_sampler().fps)
    return video, sheet


def _decode(latents: Floats) -> Tensor:
    return load_vae().decode(torch.from_numpy(latents))


def _judge(source: Source, bundle: Path, clips: int) -> dict[str, dict[str, float]]:
    judge, captions = load_judge(), spread_captions(load_captions(), clips)
    noise = noise_for(source.latent, range(JUDGED_SEED, JUDGED_SEED + clips))
    every_core = Generation(len(os.sched_getaffinity(0)), threads=1)
    ours = generate_latents(bundle, captions, noise, source.embed, every_core)
    exact = float_latents(source.model, source.sampler, captions, noise)
    scores = {name: judge.score(_decode(z), captions) for name, z in (("FP32", exact), ("int8", ours))}
    scores["int8"]["psnr"] = psnr_db(exact, ours)
    return scores


def _print_scores(scores: dict[str, dict[str, float]], clips: int, whole: Compiled) -> None:
    checked = whole.exactness
    print(f"\nJudge, {clips} clips     class  colour  motion     all")
    for name, row in scores.items():
        print(f"{name:<20} {row['class']:>8.3f} {row['colour']:>7.3f} {row['motion']:>7.3f} {row['all']:>7.3f}")
    psnr = scores["int8"]["psnr"]
    print(
        f"latents, int8 against FP32 over these clips: {psnr:.2f} dB PSNR, so their root mean square difference is "
        f"1/{10 ** (psnr / 20):.0f} of the range of the latents"
    )
    print(
        f"bit-exact: {checked['calls']} kernel calls, {checked['accumulators']} int32 accumulators equal, "
        f"{checked['quantized']} quantized elements of which {checked['near_ties']} differ by 1 at a tie"
    )
    print(f"arena: {whole.arena_bytes} bytes, liveness bound {whole.liveness_bytes}")
    print(f"K and V of a prompt: {whole.prompt_bytes} bytes for all branches, computed once\n")
