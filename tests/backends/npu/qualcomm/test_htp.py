"""QDQ graphs for HTP: what they say of scales, what they compute, and what Qualcomm's compiler makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from support.htp import codes_for, htp_linear, needs_htp

from tvm_flow.backends.npu.qualcomm.qdq import HtpLinear, qdq_model
from tvm_flow.backends.npu.qualcomm.rounding import Held, rounded
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.numerics.integer_tables import UNIT
from tvm_flow.toolchain import qualcomm
from tvm_flow.toolchain.qualcomm import SOCS, htp_blobs

RAGGED = [(1, 1, 1), (2, 3, 5), (17, 19, 23), (64, 128, 256)]


def on_the_cpu(linear: HtpLinear, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(qdq_model(linear), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("shape", RAGGED)
def test_a_graph_computes_the_exact_result_within_one(shape: tuple[int, int, int], codes: bool) -> None:
    """onnxruntime's sums are float32, and its GELU that of the error function: codes of 0.03 see neither."""
    linear = htp_linear(*shape, codes)
    x, held = codes_for(linear), Held()
    held.hold("graph", rounded(linear, x), on_the_cpu(linear, x))
    assert held.elements == shape[0] * shape[2]


@pytest.mark.parametrize("codes", [False, True])
def test_every_tensor_between_is_an_integer_of_the_scale_that_is_said(codes: bool) -> None:
    linear = htp_linear(2, 3, 5, codes)
    model = onnx.load_from_string(qdq_model(linear))
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    quantized = {n.output[0]: n.input[1:] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert {"x", *quantized} == set(linear.scales)
    for name, (scale, zero) in quantized.items():
        assert values[scale] == linear.scales[name] and values[zero] == 0
    made = {n.output[0] for n in model.graph.node if n.op_type in ("Gemm", "Gelu", "Mul")}
    readers = [n.op_type for n in model.graph.node for name in n.input if name in made]
    assert readers == ["QuantizeLinear"] * len(made)
    assert linear.scales["y"] == (linear.step if codes else linear.unit)
    assert linear.scales["wide"] * 256 == linear.x_scale, "a code is the upper byte"


@pytest.mark.parametrize(("sums", "unit"), [(1e-5, UNIT), (UNIT, UNIT), (UNIT * 1.01, 2 * UNIT), (0.03, 2.0**-5)])
def test_a_result_s_unit_is_no_finer_than_that_of_its_sums(sums: float, unit: float) -> None:
    linear = replace(htp_linear(1, 1, 2), x_scale=np.float32(0.5), weight_scale=np.array([2 * sums, 0], np.float32))
    assert linear.unit == unit


def test_results_saturate() -> None:
    linear = replace(htp_linear(1, 64, 2), bias=np.array([99.0, -99.0], np.float32))
    assert rounded(linear, np.zeros((1, 64), np.int8)).tolist() == [[32767, -32768]]


def test_a_bias_beyond_int32_is_refused() -> None:
    with pytest.raises(BuildError, match="expected biases within int32"):
        qdq_model(replace(htp_linear(1, 1, 2), bias=np.array([0.0, 1e9], np.float32)))


class TestHeld:
    def test_counts_what_is_one_away(self) -> None:
        held = Held()
        held.hold("a", np.array([1, 2, 127], np.int8), np.array([1, 3, 126], np.int8))
        assert (held.elements, held.away) == (3, 2)

    @pytest.mark.parametrize("got", [np.array([1, 4], np.int8), np.array([1, 2], np.int16), np.array([-128], np.int8)])
    def test_refuses_what_is_farther_or_something_else(self, got: np.ndarray) -> None:
        with pytest.raises(BitExactError, match="a: expected"):
            Held().hold("a", np.array([1, 2], np.int8), got)


class TestCompiler:
    def test_an_soc_that_there_is_not(self) -> None:
        with pytest.raises(BuildError, match="SoC 'sm1': expected one of sm8550"):
            list(htp_blobs({}, "sm1"))

    def test_a_package_that_is_missing_is_named_with_its_licence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(qualcomm, "_MODULE", "no_such_module")
        with pytest.raises(BuildError, match=r"onnxruntime-qnn: expected .* read Qualcomm's licence"):
            list(htp_blobs({"a": (b"", np.zeros(1, np.int8))}, "sm8650"))

    @needs_htp
    @pytest.mark.parametrize("soc", SOCS)
    def test_its_emulator_is_within_one_and_its_scales_are_ours(self, soc: str) -> None:
        linears = {f"{codes}{i}": htp_linear(*shape, codes) for codes in (0, 1) for i, shape in enumerate(RAGGED)}
        large = htp_linear(8, 1152, 16)
        linears["large"] = replace(large, weight_scale=large.weight_scale * np.float32(64))
        given = {name: (qdq_model(linear), codes_for(linear)) for name, linear in linears.items()}
        for name, blob in htp_blobs(given, soc):
            assert np.array_equal(*blob.outputs)
            Held().hold(name, rounded(linears[name], given[name][1]), blob.outputs[0])
            assert {key: blob.scales[key] for key in linears[name].scales} == {
                key: (scale, 0) for key, scale in linears[name].scales.items()
            }
            assert blob.binary and blob.binary_name.encode() in blob.wrapper

    @needs_htp
    def test_every_run_of_a_case_gives_the_same_bits(self) -> None:
        linear = htp_linear(17, 19, 23, True)
        given = {str(i): (qdq_model(linear), codes_for(linear)) for i in range(5)}
        outputs = [output for _, blob in htp_blobs(given, "sm8650") for output in blob.outputs]
        assert len(outputs) == 10 and all(np.array_equal(output, outputs[0]) for output in outputs)

    @needs_htp
    def test_what_it_has_not_is_refused_in_its_words_and_falls_back_to_no_cpu(self) -> None:
        model = onnx.load_from_string(qdq_model(htp_linear(2, 3, 5)))
        (wide,) = (n for n in model.graph.node if "wide" in n.output)
        codes = wide.input[0]
        for node in model.graph.node:  # the product reads int8 codes, and would have to give 16 bits
            node.input[:] = [codes if node.op_type == "Gemm" and i == 0 else name for i, name in enumerate(node.input)]
        kept = [n for n in model.graph.node if n is not wide and "wide" not in n.input]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        with pytest.raises(BuildError, match=r"a for sm8650: .*[Uu]nsupported|fallback"):
            list(htp_blobs({"a": (model.SerializeToString(), np.zeros((2, 3), np.int8))}, "sm8650"))
