"""That a prologue may run once for all steps: the constants that it reads do not move from step to step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array, evaluate
from tvm_flow.plan.tables import ConstantTables


def check_prologue(
    packed: PackedProgram,
    tables: ConstantTables,
    members: Sequence[tuple[int, int]],
    given: Sequence[Mapping[str, Array]],
) -> None:
    """Compare every constant of the prologue among the variants of a branch; ``given[v]`` belongs to ``members[v]``.

    Raises BuildError naming the constant and two steps between which it changes.
    """
    calls = packed.program.calls[: packed.program.prologue]
    # What lies in the weights is the same in all variants.
    moving = [n for n in dict.fromkeys(a for c in calls for a in c.args) if tables.places.get(n, ("",))[0] == "step"]
    for name in moving:
        first: dict[int, tuple[int, bytes]] = {}
        for (step, branch), arrays in zip(members, given, strict=True):
            value = evaluate(packed.constants[name], arrays).tobytes()
            before, known = first.setdefault(branch, (step, value))
            if value != known:
                raise BuildError(
                    f"{name}: expected one value for all steps of branch {branch}, because what it goes into is "
                    f"computed once per prompt; it changes between steps {before} and {step}; quantize again with this "
                    "version, which gives such layers one scale"
                )
