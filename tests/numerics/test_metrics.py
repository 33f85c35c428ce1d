from __future__ import annotations

import numpy as np
import pytest

from tvm_flow.numerics.metrics import psnr_db, sqnr_db

REFERENCE = np.array([0.0, 2.0], np.float32)


class TestPsnr:
    def test_known_values(self) -> None:
        assert psnr_db(REFERENCE, REFERENCE) == float("inf")
        assert psnr_db(REFERENCE, REFERENCE + np.float32(0.25)) == pytest.approx(20 * np.log10(8))
        assert psnr_db(REFERENCE * 10, (REFERENCE + np.float32(0.25)) * 10) == pytest.approx(20 * np.log10(8))


class TestSqnr:
    def test_known_values(self) -> None:
        assert sqnr_db(REFERENCE, REFERENCE) == float("inf")
        assert sqnr_db(REFERENCE, REFERENCE + np.float32(0.5)) == pytest.approx(10 * np.log10(2 / 0.25))
        assert sqnr_db(REFERENCE * 0, REFERENCE) == float("-inf")
