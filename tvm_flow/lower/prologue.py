"""Which values of a step graph depend on the prompt alone, so that one computation of them serves every step.

The first input of a step graph is the latent, another at every step; the others, caption tokens and mask, stay as they
are for a whole trajectory. A value belongs to the prologue when it depends on one of those, not on the latent, and is
not the graph's output. Values of constants alone stay with the step, because a constant may change with it, unless the
prologue reads them.

    tokens -> y_embedder -> quantize -> kv_linear -> scale, bias -> K, V as attention reads them     prologue
    latent -> ...                                                                                    step
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def prologue_variables(
    inputs: Sequence[Any], bindings: Iterable[tuple[Any, Iterable[Any]]], result: Any
) -> frozenset[Any]:
    """Variables that belong to the prologue of a graph with ``inputs``, the latent first.

    ``bindings`` are (variable, the variables that it is computed from), in order; ``result`` is the graph's output.
    """
    sources = {var: set(read) for var, read in bindings}
    latent, prompt = set(inputs[:1]), set(inputs[1:])
    for var, read in sources.items():
        if read & latent or var == result:
            latent.add(var)
        elif read & prompt:
            prompt.add(var)
    for var in reversed(sources):
        if var in prompt:
            prompt |= sources[var] & sources.keys()
    return frozenset(prompt - set(inputs))
