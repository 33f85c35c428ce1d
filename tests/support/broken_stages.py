"""The commands whose writes `support.broken_writes` breaks, and what they read.

Not among them: `build` and `demo`, which call other commands' stages and write what those write; `calibrate` and
`evaluate` in shards, which join such files; `package --qualcomm`, whose compiler nothing installs; `replay`, `doctor`
and `boards`, which write below the temporary folder alone.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.onnx_graphs import model, node
from support.tiny_commands import PROMPT, write_inputs
from tvm_flow.shipped import shipped_folder

Tree = dict[str, bytes]


@dataclass(frozen=True)
class Stage:
    """A command that writes ``output``, a name in the folder W, over what commands ``before`` made, or over nothing.

    In words, I is the folder of inputs that nothing writes to; commands are joined by &&.
    """

    output: str
    words: str
    before: str = ""
    needs: tuple[str, ...] = ()
    """Commands that make more inputs: W is the folder of inputs there, too."""
    held: str = ""
    """What is locked against other processes, where that is not the output."""
    alone: bool = True
    """Whether one process at a time writes it."""
    each: bool = False
    """Its files are whole each, and not all old or all new."""
    done: str = ""
    """In what it says, and fails, where it has been done before."""
    same: Callable[[Tree], Tree] = dict
    """What any two runs have in common of what they leave."""


def _ledger(found: Tree) -> Tree:
    """Files of a store are named by what is in them, since their own names are random."""
    stored = {name for name in found if name.startswith("records/") and name.endswith(".jsonl")}
    lines = {name: b"".join(sorted(found[name].splitlines(keepends=True))) for name in stored}
    others = {name: data for name, data in found.items() if name not in stored}
    return {**others, **{f"records/{hashlib.sha256(data).hexdigest()}": data for data in lines.values()}}


def _kinds(found: Tree) -> Tree:
    """Suffixes: measured times are never the same twice. What a run cost is told of one that had something to try."""
    return {kind: b"" for kind in (Path(name).suffix or name for name in found) if kind != ".json"}


def _names(found: Tree) -> Tree:
    return dict.fromkeys(found, b"")


def _shipped(name: str) -> str:
    return shlex.quote(str(shipped_folder(name)))


_MODEL = "--model I/checkpoint --sampler I/sampler.yaml --latent 4,2,3,5 --captions I"
_TRIED = f"{_MODEL} --calibration I/prompts.yaml --prompts I/prompts.yaml --count 1"
_RECIPES = f"{_shipped('calibration')}/recipes"
_RECORDS = f"{_shipped('targets')}/records"
_MERGE, _MERGE_ONE = (f"records merge {_RECORDS}{one} --records W/records" for one in ("", "/neoverse-n1.jsonl"))
_QUANTIZE = f"quantize {_MODEL} --ranges I/ranges --recipe {_RECIPES}/w8a8.yaml --output W/quantized"
_EXPORT = f"export {_MODEL} --quantized I/quantized --prompts I/prompts.yaml --output W/export"
_COMPILE = "compile --export I/export --output W/bundle --threads 1"
_KEY, _SIGN = "sign --new-key W/key", "--key I/key --model tiny --version"
_SENSITIVITY = f"sensitivity static-w8a8 {_TRIED} --windows 1 --output W/sensitivity.json"
INPUTS = (
    f"calibrate {_MODEL} --prompts I/prompts.yaml --output I/ranges",
    f"calibrate {_MODEL} --prompts I/second.yaml --output I/other",
    _QUANTIZE,
    _EXPORT,
)
STAGES = {
    "calibrate": Stage(
        "ranges",
        f"calibrate {_MODEL} --prompts I/both.yaml --output W/ranges",
        f"calibrate {_MODEL} --prompts I/prompts.yaml --output W/ranges",
    ),
    "merge": Stage(
        "ranges", "calibrate --merge I/ranges I/other --output W/ranges", "calibrate --merge I/other --output W/ranges"
    ),
    "quantize": Stage("quantized", _QUANTIZE, _QUANTIZE.replace("w8a8.yaml", "w8a8_asymmetric.yaml")),
    "export": Stage("export", _EXPORT, _EXPORT.replace("prompts.yaml", "second.yaml")),
    "report": Stage(
        "report.html",
        "report --scores I/scores.jsonl --ranges I/ranges --output W/report.html",
        "report --scores I/scores.jsonl --output W/report.html",
    ),
    "pictures": Stage(
        "pictures",
        "report --scores I/scores.jsonl --ranges I/ranges --output W/pictures/report.html --pictures W/pictures",
        "report --scores I/scores.jsonl --ranges I/other --output W/pictures/report.html --pictures W/pictures",
        held="pictures/report.html",
        each=True,
    ),
    "evaluate": Stage(
        "scores.jsonl",
        f"evaluate static-w8a8 {_TRIED} --output W/scores.jsonl",
        f"evaluate fp32 {_TRIED} --output W/scores.jsonl",
    ),
    "sensitivity": Stage("sensitivity.json", _SENSITIVITY, _SENSITIVITY.replace("w8a8", "w4a8")),
    "mix": Stage(
        "mixed.yaml",
        f"mix static-w8a8 {_TRIED} --sensitivity I/sensitivity.json --bytes 100000 --output W/mixed.yaml",
        f"mix static-w8a8 {_TRIED} --sensitivity I/sensitivity.json --bytes 1 --output W/mixed.yaml",
        needs=(_SENSITIVITY,),
    ),
    "compile": Stage("bundle", _COMPILE, f"{_COMPILE} --check none"),
    "static": Stage("bundle", f"{_COMPILE} --check none --emit static", f"{_COMPILE} --check none"),
    "prompt": Stage(
        "prompt.bin",
        f'embed "{PROMPT}" --for-bundle I/bundle --captions I --output W/prompt.bin',
        'embed "a second one" --for-bundle I/bundle --captions I --output W/prompt.bin',
        needs=(_COMPILE,),
    ),
    "embed": Stage(
        "captions.safetensors",
        'embed "one" --text-encoder I/t5 --tokens 6 --channels 8 --output W/captions.safetensors',
        'embed "two" --text-encoder I/t5 --tokens 6 --channels 8 --output W/captions.safetensors',
    ),
    "run": Stage(
        "latents.safetensors",
        f'run "{PROMPT}" --bundle I/bundle --captions I --output W/latents.safetensors',
        needs=(_COMPILE,),  # and nothing before: another run's files are refused
    ),
    "compare": Stage(
        "comparison",
        f'compare "{PROMPT}" {_MODEL} --bundle I/bundle --output W/comparison --threads 1',
        f'compare "a second one" {_MODEL} --bundle I/bundle --output W/comparison --threads 1',
        needs=(_COMPILE,),
        held="comparison/comparison.json",
        each=True,
    ),
    "profile": Stage(
        "trace.json",
        "profile I/bundle --threads 1 --trace W/trace.json",
        needs=(_COMPILE,),
        same=_names,
    ),
    "key": Stage("key", _KEY, done="expected nothing to write a new key to", each=True, same=_names),
    "sign": Stage(
        "bundle",
        f"sign W/bundle {_SIGN} 2",
        _COMPILE,
        needs=(_KEY,),
    ),
    "install": Stage(
        "installed",
        "install I/signed --into W/installed --threads 1",
        "install I/bundle --into W/installed --threads 1",
        needs=(_COMPILE, _KEY, "install I/bundle --into W/signed --threads 1", f"sign I/signed {_SIGN} 1"),
    ),
    "import": Stage(
        "imported",
        "import I/graph.onnx --output W/imported",
        "import I/graph.onnx --name other --output W/imported",
    ),
    "package": Stage(
        "package",
        "package I/export --steps 0 --output W/package",
        "package I/export --steps 1 --output W/package",
    ),
    "tune": Stage(
        "records",
        "tune I/export --records W/records --trials 2 --threads 1 --only 32x32",
        alone=False,
        each=True,
        same=_kinds,
    ),
    "merge records": Stage(
        "records",
        _MERGE,
        _MERGE_ONE,
        each=True,
        same=_ledger,
    ),
    "prune records": Stage(
        "records",
        "records prune --records W/records --all-versions",
        f"{_MERGE_ONE} && {_MERGE}",
        each=True,
        same=_ledger,
    ),
    "export records": Stage(
        "won.jsonl",
        f"records export W/won.jsonl --records {_RECORDS}",
        f"records export W/won.jsonl --records {_RECORDS}/neoverse-n1.jsonl",
    ),
}
_SCORE = {
    **{"key": "k", "recipe": "static-w8a8", "model": "plain", "prompt": PROMPT, "seed": 0, "bytes_per_step": 1.0},
    **{"groups": [0, 1], "latent_psnr_db": 40.0, "latent_cosine": 1.0},
}
_SCORES = (_SCORE, {**_SCORE, "key": "l", "recipe": "static-w8a8-g1", "groups": [0, 0]})


def write_given(inputs: Path, names: list[str]) -> None:
    """What a person has before the first of the commands ``names``."""
    write_inputs(inputs, "a second one")
    (inputs / "second.yaml").write_text("prompts: [a second one]\n")
    (inputs / "both.yaml").write_text(f"prompts: [{PROMPT}, a second one]\n")
    (inputs / "scores.jsonl").write_text("".join(json.dumps(score) + "\n" for score in _SCORES))
    graph = model([node("Relu", "x", "y")], {"x": [2, 3]}, {"y": [2, 3]})
    (inputs / "graph.onnx").write_bytes(graph.SerializeToString())
    if "embed" in names:
        from support.tiny_folders import write_t5  # which takes seconds to import

        write_t5(inputs / "t5", 8)
