"""Graphs from elsewhere, many of them: each passes, or is refused by a name; none is wrong, none crashes.

`python -m support.foreign_graphs nodes [PATTERN]` takes the node tests of the onnx package, everything but the first
input an initializer; `... random [COUNT [FIRST]]` random graphs by seed, every other one with hostile names.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper
from tqdm import tqdm

from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.random_quantized import random_quantized
from tvm_flow.errors import TvmFlowError
from tvm_flow.graph.names import quoted

Array = np.ndarray[Any, Any]
NAMED = re.compile(
    r"node '.*' \(.*, opset \d+\)|initializer '|input '|output '|^graph: opset \d+|expected one output tensor"
)
RELATIVE, ABSOLUTE = 1e-3, 1e-3
"""Of results that two right evaluations in single precision give; a lost factor is far beyond."""


def outcome(model: ModelProto, feeds: dict[str, Array], want: Array) -> tuple[str, str]:
    """(pass, refused, unnamed, wrong or crash; what was said)."""
    try:
        got = run_checked(lowered(imported(model)), {quoted(name): value for name, value in feeds.items()}).output
    except TvmFlowError as error:
        return ("refused" if NAMED.search(str(error)) else "unnamed"), str(error)
    except AssertionError as error:
        return "wrong", f"a kernel and the reference: {error}"
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}"
    right = got.shape == want.shape and np.allclose(got, want, RELATIVE, ABSOLUTE, equal_nan=True)
    return ("pass", "") if right else ("wrong", f"{got.shape} for {want.shape}")


def node_tests(pattern: str = "") -> Iterator[tuple[str, ModelProto, dict[str, Array], Array]]:
    """Of every case with one output that is a tensor: its name, static form, input and output."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(""):
        if not re.search(pattern, case.name) or not case.data_sets:
            continue
        inputs, outputs = case.data_sets[0]
        arrays = [value for value in (*inputs, *outputs) if isinstance(value, np.ndarray | np.generic)]
        if len(outputs) != 1 or len(arrays) != len(inputs) + 1:
            continue
        made = ModelProto()
        made.CopyFrom(case.model)
        names = [value.name for value in made.graph.input]
        for name, value in zip(names[1:], inputs[1:], strict=False):
            made.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        del made.graph.input[1:]
        yield case.name, made, dict(zip(names[:1], map(np.asarray, inputs[:1]), strict=False)), np.asarray(outputs[0])


def random_tests(count: int = 2000, first: int = 0) -> Iterator[tuple[str, ModelProto, dict[str, Array], Array]]:
    """Random quantized graphs by seed; the oracle is onnxruntime with every optimisation off."""
    for seed in range(first, first + count):
        made, feeds = random_quantized(seed, hostile=bool(seed % 2))
        yield f"seed {seed}", made, feeds, onnxruntime_outputs(made, feeds)[0]


def main(kind: str, *options: str) -> int:
    """Print what failed and the counts; 1 when a graph was wrong, crashed, or was refused without a name."""
    warnings.simplefilter("ignore")
    tests = node_tests(*options) if kind == "nodes" else random_tests(*map(int, options))
    counts: Counter[str] = Counter()
    for name, model, feeds, want in tqdm(tests, unit="graph"):
        result, words = outcome(model, feeds, want)
        counts[result] += 1
        if result in ("wrong", "crash", "unnamed"):
            tqdm.write(f"{name}: {result}: {' '.join(words.split())[:300]}")
    print(", ".join(f"{name} {counts[name]}" for name in ("pass", "refused", "unnamed", "wrong", "crash")))
    return int(counts["wrong"] + counts["crash"] + counts["unnamed"] > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
