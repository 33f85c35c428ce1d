"""A graph from elsewhere becomes a library that computes what onnxruntime does, with a header and a true report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from support.execution import onnxruntime_outputs
from support.onnx_graphs import FLOAT, float_tolerance, model, node
from support.qemu import QEMU
from support.quantized_graphs import attention, mlp, uint8_codes, weights

from tvm_flow.check import graph_check
from tvm_flow.compile.graph_report import report_text
from tvm_flow.errors import BitExactError, ConfigError, ImportGraphError
from tvm_flow.pipeline.importing import ImportRequest, import_stage
from tvm_flow.target.spec import TargetSpec, load_target

Array = np.ndarray[Any, Any]
HOST = load_target("host")
BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
HOSTILE = ("t0", "w.s8", "%t0", "\\%t1")


def imported(
    made: ModelProto, folder: Path, feeds: dict[str, Array] | None, target: TargetSpec = HOST
) -> dict[str, Any]:
    onnx.save(made, folder / "net.onnx")
    given = None
    if feeds is not None:
        given = folder / "in.npz"
        np.savez(given, **feeds)
    return import_stage(ImportRequest(folder / "net.onnx", target, folder / "out", given, progress=False))


def outputs(folder: Path) -> dict[str, Array]:
    with np.load(folder / "out" / "out.npz") as archive:
        return dict(archive.items())


def runs(report: dict[str, Any]) -> dict[str, str]:
    return {node["name"]: node["runs"] for node in report["nodes"]}


def floats(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def require_mlp(x: Array, got: Array) -> None:
    """The hidden codes are onnxruntime's, so the last product alone differs: none is more than 127 in size."""
    want = onnxruntime_outputs(mlp(), {"x": x})[0]
    assert np.all(np.abs(got - want) <= float_tolerance(np.full((4, 32), 127 * 0.05), 0.02 * weights(32, 8)))


def attention_tolerance(x: Array) -> Array:
    """Two evaluations: scores differ by those of their operands and of their own sum, weights by exp of twice that."""
    real, w = 0.03 * np.clip(np.rint(x / 0.03), -128, 127).astype(np.float64), 0.03 * weights(16, 16)
    part, off = np.abs(real @ w), float_tolerance(real, w)
    off_scores = 0.25 * (part @ off.swapaxes(1, 2) + off @ (part + off).swapaxes(1, 2))
    off_scores += float_tolerance(part, part[0].T, 0.25)
    relative = np.expm1(2 * off_scores.max()) + 64 * 2.0**-24
    largest = (part + off).max(axis=1, keepdims=True)  # weights of a row add up to one
    return np.asarray(relative * largest + off.max(axis=1, keepdims=True))


def test_a_quantized_mlp(tmp_path: Path) -> None:
    x = floats(4, 16)
    report = imported(mlp(), tmp_path, {"x": x})
    require_mlp(x, outputs(tmp_path)["y"])
    said = runs(report)
    assert {name: said[name] for name in ("quantize_x", "dequantize_x", "first", "bias", "relu", "second")} == {
        **dict.fromkeys(("quantize_x", "dequantize_x", "first", "second"), "integer"),
        **{"bias": "float", "relu": "float"},
    }
    kinds = {node["name"]: node.get("kind") for node in report["nodes"] if node["operator"] == "MatMul"}
    assert kinds == {"first": "product 4x16x32", "second": "product 4x32x8"}
    assert report["checked"]["calls"] == sum(kernel["calls"] for kernel in report["kernels"])
    assert report["checked"]["accumulators"] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "libnet.so",
        "net.h",
        "out.npz",
        "report.json",
    ]


def test_names_that_the_flow_makes_up_itself(tmp_path: Path) -> None:
    x = floats(4, 16)
    (tmp_path / "plain").mkdir()
    imported(mlp(), tmp_path / "plain", {"x": x})
    report = imported(mlp(HOSTILE), tmp_path, {HOSTILE[0]: x})
    assert outputs(tmp_path)[HOSTILE[3]].tobytes() == outputs(tmp_path / "plain")["y"].tobytes()
    assert [port["name"] for port in (*report["inputs"], *report["outputs"])] == [HOSTILE[0], HOSTILE[3]]


def test_an_attention_block_says_what_stays_in_float(tmp_path: Path) -> None:
    x = floats(1, 8, 16)
    report = imported(attention(), tmp_path, {"x": x})
    want = onnxruntime_outputs(attention(), {"x": x})[0]
    assert np.all(np.abs(outputs(tmp_path)["y"] - want) <= attention_tolerance(x))
    said = {node["name"]: (node["runs"], node["why"]) for node in report["nodes"]}
    assert [said[name][0] for name in "abc"] == ["integer"] * 3
    assert said["scores"] == ("float", "neither operand is quantized")
    assert "node scores (MatMul): float: neither operand is quantized" in report_text(report)


def test_codes_in_codes_out_and_several_outputs(tmp_path: Path) -> None:
    feeds = {"x": np.random.default_rng(1).integers(0, 256, (4, 16)).astype(np.uint8), "n": np.int32([1, -2, 3])}
    report = imported(uint8_codes(), tmp_path, feeds)
    want = dict(zip(("codes", "sums", "twice"), onnxruntime_outputs(uint8_codes(), feeds), strict=True))
    got = outputs(tmp_path)
    assert list(got) == list(want)
    assert {name: (array.dtype, array.shape) for name, array in got.items()} == {
        name: (array.dtype, array.shape) for name, array in want.items()
    }
    np.testing.assert_array_equal(got["codes"], want["codes"])
    np.testing.assert_array_equal(got["twice"], want["twice"])
    real = 0.02 * (feeds["x"].astype(np.float64) - 131), 0.02 * weights(16, 32)
    assert np.all(np.abs(got["sums"] - want["sums"]) <= float_tolerance(*real))
    assert [port["bytes"] for port in report["inputs"]] == [64, 12]


def test_a_c_program_calls_the_library_by_its_header(tmp_path: Path) -> None:
    x = floats(4, 16)
    imported(mlp(), tmp_path, {"x": x})
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include <stdlib.h>\n#include "net.h"\n'
        "int main(void) {\n"
        "  static char in[NET_INPUT_0_BYTES], first[NET_OUTPUT_0_BYTES], again[NET_OUTPUT_0_BYTES];\n"
        "  const void *inputs[NET_NUM_INPUTS] = {in};\n"
        "  void *outputs[NET_NUM_OUTPUTS] = {first}, *others[NET_NUM_OUTPUTS] = {again};\n"
        "  void *memory = aligned_alloc(64, (NET_MEMORY_BYTES + 63) / 64 * 64);\n"
        "  if (fread(in, 1, sizeof in, stdin) != sizeof in) return 9;\n"
        "  if (net_run(inputs, outputs, memory) != NET_OK || net_run(inputs, others, NULL) != NET_OK) return 8;\n"
        "  for (size_t i = 0; i < sizeof first; i++) if (first[i] != again[i]) return 7;\n"
        "  return fwrite(first, 1, sizeof first, stdout) != sizeof first;\n}\n"
    )
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", f"-I{tmp_path / 'out'}"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(tmp_path / "main"), str(tmp_path / "main.c")]
    folder = str(tmp_path / "out")
    subprocess.run([*command, f"-L{folder}", "-lnet", f"-Wl,-rpath,{folder}"], check=True)
    done = subprocess.run([tmp_path / "main"], input=x.tobytes(), capture_output=True, check=True)
    assert done.stdout == outputs(tmp_path)["y"].tobytes()


@pytest.mark.skipif(QEMU is None, reason="qemu is not installed")
def test_another_architecture_is_checked_under_qemu(tmp_path: Path) -> None:
    x = floats(4, 16)
    report = imported(mlp(), tmp_path, {"x": x}, load_target("raspberry-pi-5"))
    assert "qemu" in report["checked"]["on"]
    require_mlp(x, outputs(tmp_path)["y"])


def test_without_inputs_it_is_checked_on_random_ones(tmp_path: Path) -> None:
    report = imported(uint8_codes(), tmp_path, None)
    assert report["checked"]["input"] == "random inputs, seed 0" and report["checked"]["calls"] > 0
    assert not (tmp_path / "out" / "out.npz").exists()


def test_a_current_import_is_not_made_again(tmp_path: Path) -> None:
    first = imported(mlp(), tmp_path, None)
    before = (tmp_path / "out" / "libnet.so").stat().st_mtime_ns
    assert imported(mlp(), tmp_path, None) == first
    assert (tmp_path / "out" / "libnet.so").stat().st_mtime_ns == before


def test_a_wrong_kernel_is_found_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = graph_check._tensors

    def damaged(stream: Any, specs: Any) -> Any:
        found = tensors(stream, specs)
        return found and (*found[:-1], found[-1] + np.ones((), found[-1].dtype))

    monkeypatch.setattr(graph_check, "_tensors", damaged)
    with pytest.raises(BitExactError, match=r"net\.onnx: graph, call 0, kernel .* repeat it: tvm-flow replay"):
        imported(mlp(), tmp_path, {"x": floats(4, 16)})
    (evidence,) = tmp_path.glob("out.failed-*")
    assert {"evidence.json", "kernel.txt", "arguments.npz", "expected.npz"} <= {
        path.name for path in evidence.iterdir()
    }
    assert sorted({path.name for path in tmp_path.iterdir()} - {evidence.name}) == ["in.npz", "net.onnx"]


def test_the_exported_function_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm_flow.compile import graph_build

    real = graph_build.run_function
    monkeypatch.setattr(graph_build, "run_function", lambda *given: [array + 1 for array in real(*given)])
    with pytest.raises(BitExactError, match="output y"):
        imported(mlp(), tmp_path, {"x": floats(4, 16)})


def test_a_kernel_that_lowering_refuses_is_named_by_its_node(tmp_path: Path) -> None:
    made = model([node("Identity", "x", "y")], {"x": (4,)}, {"y": (4,)}, types={"x": BOOL, "y": BOOL})
    with pytest.raises(ImportGraphError, match=r"net\.onnx: node 'y' \(Identity, opset 21\): .*input 'x'.*got bool"):
        imported(made, tmp_path, None)
    nine = (1,) * 9
    deep = model([node("Relu", "x", "r"), node("Exp", "r", "y")], {"x": nine}, {"y": nine})
    with pytest.raises(ImportGraphError, match=r"net\.onnx: node 'r' \(Relu, opset 21\): .*at most 8 axes"):
        imported(deep, tmp_path, None)


def no_tensor(kind: str, *, output: bool) -> ModelProto:
    """A graph whose output (or input) is a sequence or optional of tensors."""
    tensor = helper.make_tensor_value_info("t", FLOAT, [4])
    inner = helper.make_tensor_type_proto(FLOAT, [4])
    wrapped = (helper.make_sequence_type_proto if kind == "Sequence" else helper.make_optional_type_proto)(inner)
    other = helper.make_value_info("s", wrapped)
    makes = {"Sequence": "SequenceConstruct", "Optional": "Optional"}[kind]
    reads = {"Sequence": node("SequenceLength", "s", "n"), "Optional": node("OptionalHasElement", "s", "n")}[kind]
    length = helper.make_tensor_value_info("n", INT64 if kind == "Sequence" else BOOL, [])
    ports = ([tensor], [other]) if output else ([other], [length])
    graph = helper.make_graph([node(makes, "t", "s")] if output else [reads], "g", *ports)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("output", [True, False], ids=["output", "input"])
@pytest.mark.parametrize("kind", ["Sequence", "Optional"])
def test_what_is_no_tensor_is_refused_by_name(kind: str, output: bool, tmp_path: Path) -> None:
    words = rf"net\.onnx: {'output' if output else 'input'} 's': expected a tensor, got a value of {kind.lower()} type"
    with pytest.raises(ImportGraphError, match=words):
        imported(no_tensor(kind, output=output), tmp_path, None)


def test_a_graph_without_outputs_is_refused(tmp_path: Path) -> None:
    made = model([node("Relu", "x", "y")], {"x": (4,)}, {"y": (4,)})
    del made.graph.output[:]
    with pytest.raises(ImportGraphError, match=r"net\.onnx: graph: expected at least one output, got none"):
        imported(made, tmp_path, None)


def test_dropout_is_nothing_but_while_training(tmp_path: Path) -> None:
    x, shape = floats(2, 4), {"y": (2, 4)}
    imported(model([node("Dropout", "x", "y")], {"x": (2, 4)}, shape), tmp_path, {"x": x})
    np.testing.assert_array_equal(outputs(tmp_path)["y"], x)
    training = {"r": np.float32(0.5), "t": np.array(True)}
    with pytest.raises(ImportGraphError, match=r"'y' \(Dropout, opset 21\): expected inference, got training_mode"):
        imported(model([node("Dropout", "x r t", "y")], {"x": (2, 4)}, shape, training), tmp_path, None)


def test_an_operator_of_several_values_is_refused_in_words(tmp_path: Path) -> None:
    made = model([node("TopK", "x k", "y i")], {"x": (4,)}, {"y": (1,)}, {"k": np.array([1])})
    with pytest.raises(ImportGraphError, match=r"'y' \(TopK, opset 21\): expected an operator with an exact meaning"):
        imported(made, tmp_path, None)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"z": floats(4, 16)}, r"in\.npz: expected an array named 'x'"),
        ({"x": floats(4, 15)}, r"in\.npz: 'x': expected float32 \[4, 16\], got float32 \[4, 15\]"),
        ({"x": floats(4, 16).astype(np.float64)}, r"in\.npz: 'x': expected float32 .* got float64"),
    ],
)
def test_inputs_that_are_not_the_graphs_are_refused(tmp_path: Path, feeds: dict[str, Array], words: str) -> None:
    with pytest.raises(ImportGraphError, match=words):
        imported(mlp(), tmp_path, feeds)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="a folder with other files"):
        imported(mlp(), tmp_path, None)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "all of it"


def test_the_report_is_json_of_what_was_returned(tmp_path: Path) -> None:
    report = imported(mlp(), tmp_path, None)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))


def relu_of_product(activation: str) -> ModelProto:
    nodes = [node("MatMul", "x w", "p"), node(activation, "p", "y")]
    return model(nodes, {"x": (2, 4)}, {"y": (2, 4)}, {"w": np.eye(4, dtype=np.float32)})


@pytest.mark.parametrize("location", ["graph", "inputs"])
def test_weights_of_any_file_name_and_the_graph_both_count(location: str, tmp_path: Path) -> None:
    x = floats(2, 4)
    for activation, want in (("Relu", np.maximum(x, 0)), ("Neg", -x)):
        made = relu_of_product(activation)
        onnx.save(made, tmp_path / "net.onnx", save_as_external_data=True, location=location, size_threshold=0)
        np.savez(tmp_path / "in.npz", x=x)
        import_stage(ImportRequest(tmp_path / "net.onnx", HOST, tmp_path / "out", tmp_path / "in.npz", progress=False))
        np.testing.assert_array_equal(outputs(tmp_path)["y"], want.astype(np.float32))


def test_a_folder_with_another_report_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    (tmp_path / "out" / "model.safetensors").write_text("precious")
    with pytest.raises(ConfigError, match="a folder with other files"):
        imported(relu_of_product("Relu"), tmp_path, None)
    assert (tmp_path / "out" / "model.safetensors").read_text() == "precious"


def test_names_that_c_or_the_file_system_cannot_take(tmp_path: Path) -> None:
    onnx.save(relu_of_product("Relu"), tmp_path / "graph.onnx")
    report = import_stage(ImportRequest(tmp_path / "graph.onnx", HOST, tmp_path / "out", progress=False))
    assert report["library"] == "libgraph_graph.so" and (tmp_path / "out" / "libgraph_graph.so").is_file()
    with pytest.raises(ConfigError, match="a name of at most 180 letters, got 240"):
        import_stage(ImportRequest(tmp_path / "graph.onnx", HOST, tmp_path / "long", name="b" * 240, progress=False))
    with pytest.raises(ConfigError, match="name: expected letters for library, header and function, got nothing"):
        import_stage(ImportRequest(tmp_path / "graph.onnx", HOST, tmp_path / "n", name="", progress=False))
    with pytest.raises(ConfigError, match="expected a folder with a name of its own"):
        import_stage(ImportRequest(tmp_path / "graph.onnx", HOST, Path(), progress=False))


def test_one_tensor_may_be_two_outputs(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Identity", "r", "y"), node("Identity", "r", "v")]
    x = floats(2, 4)
    imported(model(nodes, {"x": (2, 4)}, {"y": (2, 4), "v": (2, 4)}, {}), tmp_path, {"x": x})
    got = outputs(tmp_path)
    np.testing.assert_array_equal(got["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(got["v"], got["y"])


@pytest.mark.parametrize("cut", [0, 100])
def test_damaged_inputs_are_one_line(cut: int, tmp_path: Path) -> None:
    onnx.save(relu_of_product("Relu"), tmp_path / "net.onnx")
    np.savez_compressed(tmp_path / "in.npz", x=floats(2, 4))
    data = bytearray((tmp_path / "in.npz").read_bytes())
    data[cut : cut + 8] = b"\xff" * 8 if cut else b""
    (tmp_path / "in.npz").write_bytes(bytes(data) if cut else b"")
    with pytest.raises(ConfigError, match=r"expected arrays as numpy.savez writes them, got: [^\n]+; check"):
        import_stage(ImportRequest(tmp_path / "net.onnx", HOST, tmp_path / "out", tmp_path / "in.npz", progress=False))
