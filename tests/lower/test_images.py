"""Image graphs down to machine code: convolutions, norms, upsampling, and each kernel compared with its meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import model, node

from tvm_flow.backends.cpu.convolution import as_convolution
from tvm_flow.errors import ImportGraphError
from tvm_flow.export.images import Images, ImageWriter
from tvm_flow.export.writer import GraphWriter, WeightFile
from tvm_flow.graph.lifted import bindings_of, op_name

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 6, 8)).astype(np.float32)
W = RNG.standard_normal((8, 4, 3, 3)).astype(np.float32)
CONV = node("Conv", "x w", "y", pads=[1] * 4)


def conv(nodes: list[NodeProto], shape: tuple[int, ...] = (2, 8, 6, 8), w: Array = W) -> Any:
    return model(nodes, {"x": X.shape}, {"y": shape}, {"w": w})


class TestConvolution:
    @pytest.mark.parametrize("pads", [[1] * 4, [0] * 4, [0, 1, 2, 0], [2, 2, 0, 0]])
    def test_padding_is_a_kernel_of_its_own(self, pads: list[int]) -> None:
        graph = conv([node("Conv", "x w", "y", pads=pads)], (2, 8, 4 + pads[0] + pads[2], 6 + pads[1] + pads[3]))
        packed = lowered(imported(graph))
        kinds = [as_convolution(f) is not None for f in packed.program.kernels.values()]
        assert kinds == ([False, True] if any(pads) else [True])
        want = onnxruntime_outputs(graph, {"x": X})[0]
        np.testing.assert_allclose(run_checked(packed, {"x": X}).output, want, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("other", "shape"),
        [({"strides": [2, 2]}, (2, 8, 3, 4)), ({"dilations": [2, 2]}, (2, 8, 4, 6)), ({"group": 2}, (2, 8, 6, 8))],
    )
    def test_others_are_refused(self, other: dict[str, Any], shape: tuple[int, ...]) -> None:
        weight = np.ascontiguousarray(W[:, :2] if "group" in other else W)
        with pytest.raises(ImportGraphError, match="conv2d: expected stride 1"):
            imported(conv([node("Conv", "x w", "y", pads=[1] * 4, **other)], shape, weight))

    def test_a_reduction_does_not_join_what_pads(self) -> None:
        """Its rows are not those of the padded image."""
        nodes = [node("Softmax", "x", "s", axis=-1), node("Conv", "s w", "y", pads=[1] * 4)]
        packed = lowered(imported(conv(nodes)))
        for function in packed.program.kernels.values():
            names = {op_name(value) for _, value in bindings_of(function)}
            assert not ("relax.nn.pad" in names and names & {"relax.sum", "relax.max"})
        want = onnxruntime_outputs(conv(nodes), {"x": X})[0]
        np.testing.assert_allclose(run_checked(packed, {"x": X}).output, want, rtol=1e-4, atol=1e-5)


def written(write: Any, params: dict[str, Array]) -> Any:
    """The graph that ``write`` appends to images ``x`` of X's shape, its weights inside it."""
    weights = WeightFile("w")
    images = ImageWriter(GraphWriter(weights), params)
    out: Images = write(images, Images("x", *X.shape))
    graph = images.g.model({"x": X.shape}, out.name, out.shape, "y")
    file = weights.stream.getvalue()  # type: ignore[attr-defined]
    for tensor in graph.graph.initializer:
        if tensor.name in weights.entries:
            offset, length = (int(e.value) for e in tensor.external_data if e.key in ("offset", "length"))
            del tensor.external_data[:]
            tensor.data_location, tensor.raw_data = 0, file[offset : offset + length]
    return graph


NORM = {"n.weight": RNG.standard_normal(4).astype(np.float32), "n.bias": RNG.standard_normal(4).astype(np.float32)}
ATTENTION = {
    f"{name}.{part}": RNG.standard_normal((4, 4) if part == "weight" else 4).astype(np.float32)
    for name in ("a.to_q", "a.to_k", "a.to_v", "a.to_out.0")
    for part in ("weight", "bias")
} | {key.replace("n.", "a.group_norm."): value for key, value in NORM.items()}
CAUSAL = {"c.weight": RNG.standard_normal((6, 4, 3, 3, 3)).astype(np.float32), "c.bias": np.ones(6, np.float32)}
PIECES: dict[str, tuple[Any, dict[str, Array]]] = {
    "norm": (lambda i, x: i.norm(x, "n", 2, 1e-6), NORM),
    "norm_of_a_clip": (lambda i, x: i.norm(x, "n", 2, 1e-6, clip=True), NORM),
    "silu": (lambda i, x: i.silu(x), {}),
    "twice": (lambda i, x: i.twice(x), {}),
    "attention": (lambda i, x: i.attention(x, "a", 2, 1e-6), ATTENTION),
    "causal": (lambda i, x: i.causal(x, "c"), CAUSAL),
    "frames": (lambda i, x: i.frames(x, 1, 2), {}),
    "unit": (lambda i, x: x.named(i.unit(x.name)), {}),
}


def expected(name: str) -> Array:
    """By torch, in double."""
    import torch
    from torch.nn import functional as F

    x, p = torch.from_numpy(X).double(), {k: torch.from_numpy(v).double() for k, v in PIECES[name][1].items()}
    if name == "norm":
        out = F.group_norm(x, 2, p["n.weight"], p["n.bias"], 1e-6)
    elif name == "norm_of_a_clip":
        out = F.group_norm(x.transpose(0, 1)[None], 2, p["n.weight"], p["n.bias"], 1e-6)[0].transpose(0, 1)
    elif name == "attention":
        rows = F.group_norm(x, 2, p["a.group_norm.weight"], p["a.group_norm.bias"], 1e-6).flatten(2).transpose(1, 2)
        q, k, v = (F.linear(rows, p[f"a.to_{c}.weight"], p[f"a.to_{c}.bias"]) for c in "qkv")
        mixed = F.linear(F.scaled_dot_product_attention(q, k, v), p["a.to_out.0.weight"], p["a.to_out.0.bias"])
        out = x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])
    elif name == "causal":
        clip = F.pad(x.transpose(0, 1)[None], (1, 1, 1, 1, 2, 0))
        out = F.conv3d(clip, p["c.weight"], p["c.bias"])[0].transpose(0, 1)
    else:
        plain = {"silu": F.silu, "twice": lambda t: F.interpolate(t, scale_factor=2.0), "frames": lambda t: t[1:2]}
        out = plain.get(name, lambda t: (t / 2 + 0.5).clamp(0, 1))(x)
    return np.asarray(out.numpy())


@pytest.mark.parametrize("name", PIECES)
def test_pieces_of_a_decoder(name: str) -> None:
    packed = lowered(imported(written(*PIECES[name])))
    got = run_checked(packed, {"x": X}).output
    np.testing.assert_allclose(got, expected(name), rtol=1e-4, atol=1e-5)
    if name == "unit":
        assert got.min() == 0 and got.max() == 1
