"""Folds round as the runtime does, and a quantized model refuses tables that are not its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tvm_flow.calibrate import Ranges
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyModel, STDiT
from tvm_flow.quantize import Fold, Recipe, quantize_model
from tvm_flow.quantize.quantized import TABLES


def test_evaluate_rounds_once_a_sum_and_once_a_product() -> None:
    rng = np.random.default_rng(1)
    record, base, gain = (rng.normal(size=size).astype(np.float32) for size in (40, 8, 8))
    for offset in (0, 8, 32):
        total = (record[offset : offset + 8].astype(np.float64) + base).astype(np.float32)
        want = (total.astype(np.float64) * gain).astype(np.float32)
        got = Fold(offset, base, gain).evaluate(record)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(Fold(offset, base, None).evaluate(record), total)


@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
class TestTables:
    def test_they_are_those_of_the_model(self, model: AnyModel, ranges: Ranges) -> None:
        """A latent of 3 frames of 6 x 5 makes 3 x 3 tokens a frame, the last column padded."""
        tables = quantize_model(model, ranges, Recipe()).tables
        assert tuple(tables) == TABLES[model.config.model_type]
        if isinstance(model, STDiT):
            want = {"position_embedding": model.position_embedding(3, 3), "time_embedding": model.time_embedding(3)}
        else:
            cos, sin = model.rope.tables(3)
            want = {"position_embedding": model.position_embedding(3, 3, 32, 32), "rope_cos": cos, "rope_sin": sin}
        for name, table in want.items():
            np.testing.assert_array_equal(tables[name], table.numpy())
            assert tables[name].dtype == np.float32

    def test_others_are_refused(self, model: AnyModel, ranges: Ranges) -> None:
        made = quantize_model(model, ranges, Recipe())
        other = "STDiT" if model.config.model_type == "STDiT3" else "STDiT3"
        swapped = dict.fromkeys(TABLES[other], made.tables["position_embedding"])
        with pytest.raises(QuantizeError, match=f"tables: expected {', '.join(made.tables)}, got .*; quantize again"):
            dataclasses.replace(made, tables=swapped)
