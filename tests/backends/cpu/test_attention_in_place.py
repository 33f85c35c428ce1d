"""Attention that reads what a product left and writes codes: the bits of kernels apart, and which calls it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import tvm
from support.attentions import attention, in_place, normed_in_place, operands, softmax_product, to_caption
from support.execution import HOST, call_kernel, compare, compile_functions
from support.relax_kernels import function_of
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.cpu.around_attention import attention_runs
from tvm_flow.backends.cpu.attention_tiles import layout_of
from tvm_flow.backends.cpu.codegen import float_kernel
from tvm_flow.backends.cpu.registers import registers_of
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.cpu.streaming import streamed
from tvm_flow.backends.cpu.views import View
from tvm_flow.backends.place import pack_weights
from tvm_flow.export import Exported
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.merged import merged
from tvm_flow.lower.partition import partition, partition_whole
from tvm_flow.numerics.reference import execute

Array = np.ndarray[Any, Any]
SHAPES = {
    "spatial": (2, 24, 2, 12, False),
    "temporal": (16, 5, 3, 12, True),
    "blocks": (1, 401, 1, 8, False),
    "no squares among places": (2, 24, 2, 6, False),
    "no squares among frames": (10, 3, 2, 6, True),
}
CAPTION = (36, 29, 2, 12)


def made(function: Any, name: str) -> Any:
    return float_kernel(name, function, registers_of(HOST.features))


def plain(batch: int, heads: int, rows: int, d: int, keys: int) -> tuple[Any, str]:
    """Attention of whole tensors, by the same tiles, with a mask where a caption has one."""
    function = attention(batch, heads, rows, d, keys, keys == CAPTION[1])
    found = as_attention(function)
    assert found is not None
    return streamed("plain", found, layout_of(found, registers_of(HOST.features))), "plain"


def to_codes(x: Array, scale: Array) -> Array:
    return np.clip(np.rint(x / scale), -128, 127).astype(np.int8)


def inputs_of(function: Any) -> list[Array]:
    """Drawn, the scales last: about 40 codes to one."""
    found = operands(function)
    return [np.float32(0.025) * np.ones_like(x) if x.ndim == 0 and x is found[-1] else x for x in found]


@pytest.mark.parametrize("name", SHAPES)
def test_of_one_products_columns(name: str) -> None:
    """Each head's q, k and v lie among those of other heads, or frames apart."""
    frames, places, heads, d, temporal = SHAPES[name]
    function = in_place(*SHAPES[name])
    qkv, head_scale, scale = inputs_of(function)
    module = compile_functions({"whole": made(function, "whole")})
    got = call_kernel(module, "whole", [qkv, head_scale, scale], (frames * places, heads * d), "int8")
    compare(execute(function, [qkv, head_scale, scale]), got)
    first, last = ((1, 2, 0, 3), (2, 0, 1, 3)) if temporal else ((0, 2, 1, 3), (0, 2, 1, 3))
    q, k, v = (part.reshape(frames, places, heads, d).transpose(first) for part in np.split(qkv, 3, axis=1))
    batch, rows = q.shape[0], q.shape[2]
    kernel, own = plain(batch, heads, rows, d, rows)
    parts = [q * head_scale, k.transpose(0, 1, 3, 2), v]
    apart = call_kernel(compile_functions({own: kernel}), own, parts, q.shape, "float32")
    assert np.array_equal(got, to_codes(apart.transpose(last).reshape(got.shape), scale)) and np.unique(got).size > 50


def test_of_a_captions_keys_and_values() -> None:
    """K is turned as it is packed, a vector of gains lies along the heads' channels."""
    tokens, keys, heads, d = CAPTION
    function = to_caption(*CAPTION)
    q, kv, mask, gain, scale = inputs_of(function)
    mask = np.where(np.arange(keys) < 20, 0.0, -1e9).astype(np.float32)
    given = [q, kv, mask, gain, scale]
    module = compile_functions({"whole": made(function, "whole")})
    got = call_kernel(module, "whole", given, (tokens, heads * d), "int8")
    compare(execute(function, given), got)
    k, v = (part.reshape(keys, heads, d) for part in np.split(kv, 2, axis=1))
    rows = q.reshape(tokens, heads, d).transpose(1, 0, 2)
    kernel, own = plain(1, heads, tokens, d, keys)
    parts = [rows[None], k.transpose(1, 2, 0)[None], v.transpose(1, 0, 2)[None], mask]
    apart = call_kernel(compile_functions({own: kernel}), own, parts, (1, heads, tokens, d), "float32")[0]
    assert np.array_equal(got, to_codes(apart.transpose(1, 0, 2).reshape(got.shape) * gain, scale))


def test_operands_are_known_where_they_lie() -> None:
    found = as_attention(in_place(16, 5, 3, 12, True))
    assert found is not None and found.in_place and [step.operator for step in found.q.steps] == ["relax.multiply"]
    assert found.q.view == View((5, 3, 16, 12), (108, 12, 540, 1))
    assert found.k.view == View((5, 3, 12, 16), (108, 12, 1, 540), 36)
    assert found.v.view == View((5, 3, 16, 12), (108, 12, 540, 1), 72)
    assert found.written.view == View((5, 3, 16, 12), (36, 12, 180, 1)) and found.written.dtype == "int8"
    whole = as_attention(attention(1, 2, 8, 4, 12, True))
    assert whole is not None and not whole.in_place


def program_of(function: Any) -> Program:
    """The kernels that a step with ``function`` alone has."""
    graph = LiftedGraph(tvm.IRModule({"main": function}), tuple(p.name for p in function.params), {}, {})
    return partition_whole(graph)


@pytest.mark.parametrize("name", [*(name for name in SHAPES if name != "blocks"), "ragged"])
def test_norms_and_rope_before_it_are_one_kernel_with_it(name: str) -> None:
    """One reads the product once, and gives the bits of a kernel for each, also for keys that are no whole squares."""
    function = normed_in_place(*SHAPES.get(name, (6, 3, 2, 16, True)))
    program = program_of(function)
    whole = merged(program, attention_runs(program, program.kernels))
    assert len(program.calls) == 7 and len(whole.calls) == 1
    qkv, eps, gains, cos, sin, scale = operands(function)
    given = [qkv, np.abs(eps) * np.float32(1e-3), gains, cos, sin, np.float32(0.025) * np.ones_like(scale)]
    apart, together = (run(each, dict(zip(program.graph.inputs, given, strict=True))) for each in (program, whole))
    assert np.array_equal(apart, together) and np.unique(together).size > 50
    compare(execute(function, given), together)


def run(program: Program, tensors: dict[str, Array]) -> Array:
    """What ``program`` makes of ``tensors``, its kernels one after another."""
    module = compile_functions({name: made(function, name) for name, function in program.kernels.items()})
    for call in program.calls:
        spec, read = program.tensors[call.output], [tensors[name] for name in call.args]
        tensors[call.output] = call_kernel(module, call.kernel, read, spec.shape, spec.dtype)
    return tensors[program.output]


def normed(emit: Any, x: Any, axis: int, keepdims: bool = True) -> Any:
    """``x`` [.., .., 8] over the root of its mean square along ``axis``."""
    total = emit(R.sum(emit(R.multiply(x, x)), axis=[axis], keepdims=keepdims))
    mean = emit(R.divide(total, relax.const(8.0, "float32")))
    return emit(R.divide(x, emit(R.sqrt(emit(R.add(mean, relax.const(0.5, "float32")))))))


def test_a_norm_over_tokens_or_of_rows_that_lie_across_is_none_of_an_operands_rows() -> None:
    """Sums of 8 x 8 rows without their axis divide rows of another dimension, where all have 8 places."""

    def build(emit: Any, q: Any, k: Any, v: Any, axis: int, keepdims: bool = True) -> Any:
        return softmax_product(emit, normed(emit, q, axis, keepdims), k, v)

    shapes = [((8, 8, 8), "float32"), ((8, 8, 24), "float32"), ((8, 24, 8), "float32")]
    along, over, across = (partial(build, axis=2), partial(build, axis=1), partial(build, axis=2, keepdims=False))
    assert as_attention(function_of(along, *shapes)) is not None
    assert as_attention(function_of(over, *shapes)) is None and as_attention(function_of(across, *shapes)) is None


def test_channels_that_are_cut_from_a_normed_row_are_none_of_an_operands_rows() -> None:
    def build(emit: Any, q: Any, k: Any, v: Any, kept: int) -> Any:
        cut = emit(R.strided_slice(normed(emit, q, 2), [2], [0], [kept], [1]))
        return softmax_product(emit, cut, k, v)

    for kept in (8, 4):
        shapes = [((2, 24, 8), "float32"), ((2, kept, 24), "float32"), ((2, 24, 8), "float32")]
        found = as_attention(function_of(partial(build, kept=kept), *shapes))
        assert (found is not None) is (kept == 8)


def test_three_moves_and_the_codes_after_are_one_kernel_with_it() -> None:
    program = program_of(in_place(2, 24, 2, 12, False))
    assert len(program.calls) == 5 and attention_runs(program, program.kernels) == [range(5)]
    (call,) = pack_weights(program, choose_isa(HOST.features)).program.calls
    assert call.args == ("p0", "p1", "p2")


def test_what_others_read_or_another_device_runs_stays_apart() -> None:
    program = program_of(in_place(2, 24, 2, 12, False))
    _, k, _, mixed, _ = (call.output for call in program.calls)
    mine = set(program.kernels)
    assert attention_runs(replace(program, others=(k,)), mine) == [range(2, 5)]
    assert attention_runs(replace(program, others=(mixed,)), mine) == [range(4)]
    assert attention_runs(program, mine - {program.calls[4].kernel}) == [range(4)]
    assert attention_runs(replace(program, prologue=1), mine) == [range(1, 5)]
    assert attention_runs(program, mine - {program.calls[3].kernel}) == []


def test_a_root_after_it_is_no_step() -> None:
    whole = in_place(2, 24, 2, 12, False)

    def rooted(emit: Any, q: Any, k: Any, v: Any) -> Any:
        return emit(R.sqrt(softmax_product(emit, q, k, v)))

    shapes = [((2, 24, 8), "float32"), ((2, 8, 24), "float32"), ((2, 24, 8), "float32")]
    assert as_attention(whole) is not None and as_attention(function_of(rooted, *shapes)) is None


def test_a_steps_attentions_write_codes(exported: Exported) -> None:
    program = partition(import_graph(exported.graphs[0][0]))
    runs = attention_runs(program, program.kernels)
    attentions = [call for call in program.calls if as_attention(program.kernels[call.kernel]) is not None]
    assert len(runs) == len(attentions) and all(run.start >= program.prologue for run in runs)
    assert all(program.tensors[program.calls[run.stop - 1].output].dtype == "int8" for run in runs)
