"""What can be chosen of a kernel where it stands in a program: the default is one choice, others are other code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm_ffi
from support.attentions import attention
from support.execution import HOST
from support.relax_kernels import function_of, program_of
from tvm.relax import op as R

from tvm_flow.backends.cpu.choices import AttentionChoice, Choice, FloatChoice, ProductChoice, RowsChoice
from tvm_flow.backends.cpu.codegen import scheduled_kernels
from tvm_flow.backends.cpu.spaces import default_choice, space, with_choices
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.backends.place import place
from tvm_flow.errors import BuildError


def of_floats(build: Any, *shapes: tuple[int, ...]) -> Any:
    return function_of(build, *((shape, "float32") for shape in shapes))


def softmax(emit: Any, x: Any) -> Any:
    power = emit(R.exp(emit(R.subtract(x, emit(R.max(x, axis=-1, keepdims=True))))))
    return emit(R.divide(power, emit(R.sum(power, axis=-1, keepdims=True))))


def matmul(emit: Any, x: Any, w: Any) -> Any:
    return emit(R.matmul(x, w))


KERNELS: dict[str, tuple[Any, dict[int, Any], type[Choice]]] = {
    "streaming": (attention(1, 2, 16, 8, 96, False), {}, AttentionChoice),
    "small attention": (attention(1, 2, 8, 16, 48, False), {}, AttentionChoice),
    "norm": (of_floats(softmax, (2, 16, 96)), {}, RowsChoice),
    "elementwise": (of_floats(lambda emit, x, y: emit(R.multiply(x, y)), (32, 96), (96,)), {}, RowsChoice),
    "computed": (of_floats(matmul, (2, 8, 24), (2, 24, 96)), {}, RowsChoice),
    "packed": (of_floats(matmul, (16, 24), (24, 96)), {1: np.zeros((24, 96), np.float32)}, FloatChoice),
}


def placed(kind: str) -> PackedProgram:
    function, constants, _ = KERNELS[kind]
    return place(program_of(function, constants), HOST)


def code(packed: PackedProgram, choices: dict[str, Choice]) -> int:
    return int(tvm_ffi.structural_hash(scheduled_kernels(with_choices(packed, choices))["k"], map_free_vars=True))


@pytest.mark.parametrize("kind", KERNELS)
def test_the_default_is_a_choice_that_gives_the_default_s_code_and_others_give_other_code(kind: str) -> None:
    packed, of = placed(kind), KERNELS[kind][2]
    default, others = default_choice(packed, "k"), space(packed, "k")
    assert isinstance(default, of) and default not in others
    assert all(type(each) is of for each in others) and len(set(others)) == len(others) > 4
    usual = code(packed, {})
    assert code(packed, {"k": default}) == usual
    assert usual not in {code(packed, {"k": each}) for each in (others[0], others[1], others[-1])}


@pytest.mark.parametrize("kind", KERNELS)
def test_a_choice_of_another_kind_of_kernel_is_refused(kind: str) -> None:
    kinds: list[Choice] = [
        ProductChoice(4, 1, 1, 1, False),
        AttentionChoice(4, 8, False),
        RowsChoice(8, False),
        FloatChoice(4, 1, 1, False),
    ]
    for other in kinds:
        if type(other) is not KERNELS[kind][2]:
            with pytest.raises(BuildError, match="tune again"):
                code(placed(kind), {"k": other})


@pytest.mark.parametrize("kind", ["norm", "elementwise", "computed"])
def test_rows_of_a_task_divide_the_last_axis_of_rows_and_lie_in_the_first_cache(kind: str) -> None:
    found = space(placed(kind), "k")
    assert len({each.rows for each in found if isinstance(each, RowsChoice)}) > 2
    with pytest.raises(BuildError, match="rows of a task that divide the last axis"):
        code(placed(kind), {"k": RowsChoice(8, False, 7)})
    wide = place(program_of(of_floats(softmax, (16, 4096)), {}), HOST)
    assert {each.rows for each in space(wide, "k") if isinstance(each, RowsChoice)} == {0, 2}
