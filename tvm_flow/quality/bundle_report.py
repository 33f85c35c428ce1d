"""What a bundle holds, in words: for `tvm-flow inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from tvm_flow.errors import BuildError, BundleError, RuntimeFailure
from tvm_flow.pack import Manifest, bundle_bytes, read_decoder, read_manifest, verify_bundle
from tvm_flow.pack.format import STEPS
from tvm_flow.pack.index import Index, read_index
from tvm_flow.pack.signature import Statement
from tvm_flow.pack.trust import Trust, verify_signature
from tvm_flow.run import Bundle, BundleDecoder

UNCHECKED = "UNCHECKED: compiled with --check none; nothing of it was run or compared"
_COUNTED = ("calls", "accumulators", "quantized", "near_ties", "floats", "followed")


def bundle_report(directory: Path, trust: Trust | None = None) -> str:
    """Model, sampler, quantization, target, files, memory, and what was checked where, a line or a few for each.

    Every file is verified first; what only the runtime knows is said where the bundle opens on this machine. Raises
    BundleError when the bundle is incomplete or altered, SignatureError when it is not signed as ``trust`` asks.
    """
    signed = [] if trust is None else [_signed(trust, verify_signature(directory, trust))]
    verify_bundle(directory)
    manifest, index = read_manifest(directory), read_index(directory / STEPS)
    figures = manifest.provenance.get("compiled", {})
    lines = [
        f"bundle: {directory}, whole; written by tvm-flow {manifest.version}",
        *signed,
        *_model(manifest, index),
        *_quantization(manifest, figures),
        *_target(manifest, index),
        *_files(directory, manifest),
        *_memory(directory, index, figures, trust),
        *(_checked(figures) if manifest.checked else [UNCHECKED]),
    ]
    return "\n".join(lines)


def _signed(trust: Trust, statement: Statement) -> str:
    return f"signed: {statement.model}, version {statement.version}, by {trust.name_of(statement.key)}"


def _model(manifest: Manifest, index: Index) -> Iterator[str]:
    model, sampler = manifest.provenance.get("model", {}), dict(manifest.sampler)
    kind = f"{model.get('model_type', 'unknown')}, depth {model.get('depth', '?')}, hidden {model.get('hidden_size')}"
    yield f"model: {kind}; sha256 {str(manifest.provenance.get('model_sha256', 'not recorded'))[:12]}"
    name, steps = sampler.pop("name", "rflow"), sampler.pop("steps", manifest.steps)
    others = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in sampler.items()
    )
    yield f"sampler: {name}, {steps} steps, {index.branches} branches, {others}"
    if steps != manifest.steps:
        yield f"  holds the first {manifest.steps} of them"
    caption = f"{index.text_tokens} tokens of {index.text_channels}"
    yield f"latent: {'x'.join(map(str, index.latent_shape))}; caption: {caption} channels"


def _quantization(manifest: Manifest, figures: Mapping[str, Any]) -> Iterator[str]:
    recipe = manifest.provenance.get("recipe", {})
    yield f"quantization: {', '.join(f'{key} {value}' for key, value in sorted(recipe.items())) or 'not recorded'}"
    left = figures.get("left_in_float")
    yield f"left in float: {'not recorded' if left is None else len(left) or 'nothing that has a scale'}"
    yield from (f"  {line}" for line in left or ())


def _target(manifest: Manifest, index: Index) -> Iterator[str]:
    target = manifest.target
    yield f"target: {target.get('name')}, {target.get('triple')}, {target.get('cpu')}"
    if target.get("features"):
        yield f"  features: {' '.join(target['features'])}"
    yield f"step groups: {len(index.libraries)} for {index.steps} steps and {index.branches} branches"
    yield from (f"  {line}" for line in manifest.provenance.get("compiled", {}).get("kernels", ()))


def _files(directory: Path, manifest: Manifest) -> Iterator[str]:
    yield f"files: {bundle_bytes(directory):,} bytes"
    for name, entry in sorted(manifest.files.items(), key=lambda item: -item[1].bytes):
        yield f"  {entry.bytes:>14,} {name}"


def _memory(directory: Path, index: Index, figures: Mapping[str, Any], trust: Trust | None) -> Iterator[str]:
    """From the runtime where the bundle opens here, else what its manifest knows."""
    try:
        with Bundle.open(directory, threads=1, unchecked=True, trust=trust) as bundle:
            info = bundle.info
    except (BundleError, BuildError, RuntimeFailure) as error:
        yield f"memory, of the manifest (it does not open here: {str(error).split(': ', 1)[-1][:60]}...):"
        rows = {"arena": figures.get("arena_bytes"), "weights": index.weights_bytes}
        rows["prompt of all branches"] = figures.get("prompt_bytes")
    else:
        yield "memory:"
        rows = {"arena": info.arena_bytes, "step constants": info.step_bytes}
        rows |= {"prompt of all branches": info.prompt_bytes, "weights": info.weights_bytes}
    rows["a latent"] = 4 * prod(index.latent_shape)
    for name, size in rows.items():
        yield f"  {'not recorded' if size is None else f'{size:,}':>14} {name}"
    yield from _decoder(directory, trust)


def _decoder(directory: Path, trust: Trust | None) -> Iterator[str]:
    decoder = read_decoder(directory)
    if decoder is None:
        yield "decoder: none; it ends in latents"
        return
    frames, height, width, _ = decoder.video_shape
    yield f"decoder: {frames} frames of {width}x{height}, {decoder.chunk} latent frames at a time"
    yield f"  {decoder.weights_bytes:>14,} weights"
    try:
        with BundleDecoder.open(directory, threads=1, unchecked=True, trust=trust) as opened:
            yield f"  {opened.arena_bytes:>14,} arena"
    except (BundleError, BuildError, RuntimeFailure):
        return  # said above


def _checked(figures: Mapping[str, Any]) -> Iterator[str]:
    for what, found in (("steps", figures.get("exactness")), ("decoder", figures.get("decoder"))):
        if found:
            count = {key: f"{found.get(key, 0):,}" for key in _COUNTED}
            yield f"checked, {what}: {count['calls']} kernel calls; {count['followed']} more followed, not compared"
            if found.get("accumulators"):
                yield f"  {count['accumulators']:>14} accumulators equal"
            if found.get("quantized"):
                yield f"  {count['quantized']:>14} codes equal, {count['near_ties']} of these off by 1 at a tie"
            yield f"  {count['floats']:>14} floats within their derived bounds"
    where = figures.get("checked_on", "not recorded")
    yield f"checked on: {'the machine that compiled it' if where == 'this machine' else where}"
