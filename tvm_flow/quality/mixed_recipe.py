"""A mixture of precisions as a recipe file for people: what was kept, what each cost and brought, in comments."""

from __future__ import annotations

import json

import yaml

from tvm_flow.quality.budget import Budget, Cost
from tvm_flow.quality.mixing import Choice, Mixed
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.recipe import KeepFloat
from tvm_flow.quantize.recipe_parts import Override


def mixed_text(mixed: Mixed, name: str, budget: Budget) -> str:
    """YAML of ``mixed``, which began as the recipe ``name``; `load_recipe` reads ``mixed.recipe`` from it."""
    key = "overrides" if budget.to == "int8" else "keep_float"
    values = {field: value for field, value in mixed.recipe.to_dict().items() if value != Recipe().to_dict().get(field)}
    values.pop(key, None)
    rules: tuple[KeepFloat | Override, ...] = getattr(mixed.recipe, key)
    own = len(rules) - len(mixed.choices)
    lines = [f"# {line}" for line in _head(mixed, name, budget)]
    lines += [yaml.safe_dump(values, sort_keys=False).rstrip()] if values else []
    lines += [f"{key}:"] if rules else []
    for rule, choice in zip(rules, (*[None] * own, *mixed.choices), strict=True):
        lines += [f"  # {_brought(choice)}"] if choice is not None else []
        lines.append(f"  - {_flow(rule)}")
    return "\n".join(lines) + "\n"


def summary_of(mixed: Mixed) -> str:
    """One line: dB before and after, and what was spent."""
    last = mixed.choices[-1] if mixed.choices else None
    after, cost = (mixed.psnr_db, Cost()) if last is None else (last.psnr_db, last.cost)
    return (
        f"{mixed.psnr_db:.2f} dB as it was, {after:.2f} dB with {len(mixed.choices)} kept of {mixed.tried} tried, "
        f"over {mixed.pairs} videos; {_spent(cost)}"
    )


def _head(mixed: Mixed, name: str, budget: Budget) -> list[str]:
    limits = [f"{budget.weight_bytes:.0f} more bytes of weights"] if budget.weight_bytes is not None else []
    limits += [f"{budget.macs:.4f} of the linears' multiply-adds in float"] if budget.macs is not None else []
    return [
        f"{name} with layers in {budget.to}, chosen by tvm-flow mix under {' and '.join(limits)}.",
        "Final latents against FP32's:",
        f"  {summary_of(mixed)}",
        "Above each: its effect when it alone is quantized, and what is measured and spent with all down to it.",
    ]


def _brought(choice: Choice) -> str:
    return f"effect {choice.candidate.effect:.5f}; {choice.psnr_db:.2f} dB, {_spent(choice.cost)}"


def _spent(cost: Cost) -> str:
    macs = f", {cost.macs:.4f} of the multiply-adds" if cost.macs else ""
    return f"{cost.weight_bytes:.0f} bytes{macs}"


def _flow(rule: KeepFloat | Override) -> str:
    if isinstance(rule, Override):
        parts = [f"{key}: {json.dumps(value)}" for key, value in rule.to_dict().items()]
        return f"{{{', '.join(parts)}}}"
    return (
        json.dumps(rule.layers)
        if rule.steps is None
        else f"{{layers: {json.dumps(rule.layers)}, steps: {list(rule.steps)}}}"
    )
