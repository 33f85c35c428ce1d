"""A toy model: its step groups compiled from c/toy_group.c, its bundle, and the same arithmetic in numpy."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tvm_flow.pack import Contents, Golden, Group, Prompt, Variant
from tvm_flow.sampler import Guidance, SamplerConfig, next_latent, seeded_noise, step_updates
from tvm_flow.toolchain.runtime_library import RUNTIME

Float32 = NDArray[np.float32]

SOURCES = Path(__file__).parents[1] / "runtime" / "c"
SHAPE, TOKENS, CHANNELS = (4, 2, 2, 2), 3, 4
VALUES, STEP_FLOATS, WEIGHTS = 32, 34, 128
STEPS, BRANCHES = 4, 2
# Group 1 subtracts the context and takes a longer variant, whose last four floats are the scales. The prologue reads
# these, so they are the same at all steps of a group and branch.
VARIANT_FLOATS, SIGNS = (5, 7), (1.0, -1.0)
GROUP_OF_STEP = (0, 0, 1, 0)
LEARNED: dict[str, str | float] = {"variance": 1, "v_shape0": 8, "arena_bytes": 704}
"""Macros of a group that predicts a variance too."""


def compile_c(output: Path, sources: list[Path], *flags: str) -> Path:
    """gcc on ``sources`` with the runtime's headers; the assertion carries the compiler's words."""
    includes = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-ffp-contract=off", *includes, *flags, "-o", str(output)]
    command += [*map(str, sources), "-lm", "-lpthread", "-ldl"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return output


def compile_group(output: Path, *flags: str, **macros: str | float) -> Path:
    """One toy library; ``macros`` are the TOY_ names of toy_group.c in lower case, without the prefix."""
    defines = [f"-DTOY_{name.upper()}={value}" for name, value in macros.items()]
    shared = ["-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    return compile_c(output, [SOURCES / "toy_group.c"], *shared, *flags, *defines)


def compile_groups(folder: Path, *flags: str) -> tuple[Path, Path]:
    """The two undamaged libraries."""
    second: dict[str, str | float] = {
        **{"sign": "-1.0f", "variant_floats": VARIANT_FLOATS[1], "arena_bytes": 1024, "v_offset": 512},
        **{"context_offset": 128, "prompt_bytes": 144},
    }
    first = compile_group(folder / "first.so", *flags)
    return first, compile_group(folder / "second.so", *flags, **second)


def compile_split(output: Path, *flags: str, **macros: str | float) -> Path:
    """The first group over three devices; ``macros`` are the SPLIT_ names of toy_split.c in lower case."""
    defines = [f"-DSPLIT_{name.upper()}={value}" for name, value in macros.items()]
    shared = ["-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    return compile_c(output, [SOURCES / "toy_split.c"], *shared, *flags, *defines)


def compile_splits(folder: Path, *flags: str) -> tuple[Path, Path]:
    """Both groups of `compile_groups` over three devices each."""
    second = [f"-DTOY_SIGN={SIGNS[1]}f", f"-DTOY_VARIANT_FLOATS={VARIANT_FLOATS[1]}"]
    larger: dict[str, str | float] = {"toy_arena": 320, "toy_prompt": 192}
    return (
        compile_split(folder / "first.so", *flags),
        compile_split(folder / "second.so", *flags, *second, **larger),
    )


@dataclass(frozen=True)
class Request:
    noise: Float32
    cond: Prompt
    uncond: Prompt


def make_request(seed: int) -> Request:
    random = np.random.default_rng(seed)
    prompts = [
        Prompt(random.normal(size=(TOKENS, CHANNELS)).astype(np.float32), np.array(mask, np.float32))
        for mask in ([0, 0, -np.inf], [0, -np.inf, -np.inf])
    ]
    return Request(random.normal(size=SHAPE).astype(np.float32), *prompts)


def make_contents(libraries: tuple[Path, Path], seed: int = 1, guided_channels: int = 3) -> Contents:
    """Contents whose golden latents come from `generate`."""
    random = np.random.default_rng(seed)
    request = make_request(seed + 1)
    scales = random.normal(size=(2, BRANCHES, CHANNELS)).astype(np.float32)
    contents = Contents(
        weights=random.normal(size=WEIGHTS).astype("<f4").tobytes(),
        groups=[Group(f"group{i}", path, VARIANT_FLOATS[i]) for i, path in enumerate(libraries)],
        sampler={"name": "rflow", "steps": STEPS},
        timesteps=[1000.0, 750.0, 500.0, 250.0],
        updates=np.array([[1.0, dt, 0.0, 0.0, 0.0] for dt in (0.25, 0.26, 0.24, 0.25)]),
        cfg_scale=7.3,
        guided_channels=guided_channels,
        output_channels=SHAPE[0],
        latent_shape=SHAPE,
        text_tokens=TOKENS,
        text_channels=CHANNELS,
        step_records=random.normal(size=(STEPS, STEP_FLOATS)).astype(np.float32),
        variants=[
            [Variant(g, _variant(random, VARIANT_FLOATS[g], scales[g, branch])) for branch in range(BRANCHES)]
            for g in GROUP_OF_STEP
        ],
        target={"name": "toy", "triple": "x86_64-linux-gnu"},
        provenance={"made": "by a test"},
        golden=Golden(request.noise, request.cond, request.uncond, np.zeros(SHAPE, np.float32)),
    )
    return replace(contents, golden=replace(contents.golden, latents=generate(contents, request)))


def _variant(random: np.random.Generator, floats: int, scales: Float32) -> Float32:
    return np.concatenate([random.normal(size=floats - CHANNELS).astype(np.float32), scales])


def of_one_group(contents: Contents) -> Contents:
    """``contents`` with every step in group 0, whose scales all take; the golden latents are not made again."""
    variants = [
        [
            Variant(0, np.concatenate([variant.values[-5:-4], contents.variants[0][branch].values[-CHANNELS:]]))
            for branch, variant in enumerate(step)
        ]
        for step in contents.variants
    ]
    return replace(contents, groups=contents.groups[:1], variants=variants)


def calls_of_run(contents: Contents) -> list[tuple[int, int, int, str]]:
    """(step, branch, call, kernel) of a whole denoising loop: a prologue wherever a branch comes to another group."""
    calls: list[tuple[int, int, int, str]] = []
    before: dict[int, int] = {}
    for step, variants in enumerate(contents.variants):
        for branch, variant in enumerate(variants):
            if before.get(branch) != variant.group:
                calls.append((step, branch, 0, "toy_context"))
            before[branch] = variant.group
            calls += [(step, branch, 1, "toy_modulate"), (step, branch, 2, "toy_velocity")]
    return calls


def sampled_contents(folder: Path, config: SamplerConfig, seed: int = 1, *flags: str) -> Contents:
    """A toy bundle of one group for any sampler, its library compiled into ``folder``.

    It predicts about z itself, the best that can be said of unit Gaussian data at high noise: latents stay of size 1.
    """
    learned = LEARNED if config.learned_variance else {}
    library = compile_group(folder / f"{config.name}.so", *flags, **learned)
    plain, random = make_contents((library, library), seed), np.random.default_rng(seed)
    fine = random.uniform(200, 300, 32)
    weights = np.concatenate([fine, random.normal(size=32), 0.5 * random.normal(size=32), 1 / fine])
    scales = [[np.append(1.0, 0.02 * random.normal(size=4)) for _ in range(BRANCHES)]] * config.steps
    contents = replace(
        plain,
        weights=weights.astype("<f4").tobytes(),
        groups=plain.groups[:1],
        sampler=config.to_dict(),
        timesteps=config.timesteps().tolist(),
        updates=step_updates(config),
        cfg_scale=config.cfg_scale,
        guided_channels=config.guided_of(SHAPE[0]),
        output_channels=SHAPE[0] * (2 if config.learned_variance else 1),
        step_records=(1e-4 * random.normal(size=(config.steps, STEP_FLOATS))).astype(np.float32),
        variants=[[Variant(0, values.astype(np.float32)) for values in step] for step in scales],
    )
    request = Request(plain.golden.noise, plain.golden.cond, plain.golden.uncond)
    return replace(contents, golden=replace(contents.golden, latents=generate(contents, request)))


def fold(contents: Contents, step: int, branch: int) -> tuple[Float32, Float32, Float32, Float32]:
    """The four tensors of the step block, float32 operation by operation."""
    weights = np.frombuffer(contents.weights, np.float32)
    record, variant = contents.step_records[step], contents.variants[step][branch].values
    act = variant[0] * weights[0:32]
    mod = (record[0:32] + weights[32:64]) * weights[64:96]
    return act, mod, record[2:34] + weights[96:128], variant[-4:]


def velocity(contents: Contents, step: int, branch: int, z: Float32, prompt: Prompt) -> Float32:
    """float32 [4, 2, 2, 2], or [8, 2, 2, 2] with a variance that is an eighth of the prediction."""
    act, mod, out_mod, scale = fold(contents, step, branch)
    h = np.rint(z.ravel() * act + mod).astype(np.int32)
    context = np.zeros(CHANNELS, np.float32)
    for token, mask in zip(prompt.tokens, prompt.mask, strict=True):
        if mask == 0:
            context += token
    sign = np.float32(SIGNS[contents.variants[step][branch].group])
    v = h.astype(np.float32) * out_mod + sign * np.repeat(context * scale, 8)
    v = np.asarray(v, np.float32).reshape(SHAPE)
    return v if contents.output_channels == SHAPE[0] else np.concatenate([v, np.float32(0.125) * v])


def generate(contents: Contents, request: Request, seed: int = 0, steps: int | None = None) -> Float32:
    """The denoising loop of tvm_flow.h, with noise drawn for ``seed``, or its first ``steps`` steps alone."""
    z, guidance = request.noise.copy(), Guidance(contents.cfg_scale, contents.guided_channels)
    prompts = (request.cond, request.uncond)
    for step, row in enumerate(contents.updates[:steps]):
        both = tuple(velocity(contents, step, branch, z, prompts[branch]) for branch in range(contents.branches))
        z = next_latent(z, both, row, guidance, seeded_noise(seed, step + 1, SHAPE) if row[2] else None)
    return z
