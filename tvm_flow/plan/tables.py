"""How the constants of all steps are stored: shared once, or made from a few numbers of a step.

A constant that has the same value at every step and branch lies in the weights. One that is a shared vector times a
scalar of the branch is a SCALE fold (of floats) or an INTEGER fold (of a zero point), one that is affine in the step's
record an AFFINE fold, of which LESS subtracts the variant's center where there is one, anything else is copied from
the variant's own values, integers with bits flipped (FLIP) where they would be no finite floats. The folds are those of
``tvm_flow_library.h``; every one is evaluated here the way the runtime does and compared bit for bit with the constant
it replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import RULES, Array, Constant, Derived, Given, evaluate, given_names, same_bits
from tvm_flow.plan.arena import ALIGNMENT
from tvm_flow.plan.folds import (
    AFFINE,
    COPY,
    FLIP,
    INTEGER,
    LESS,
    NONE,
    SCALE,
    Floats,
    FoldRow,
    flips,
    folded,
    rows_of_words,
)
from tvm_flow.plan.store import WeightStore
from tvm_flow.quantize.quantized import Fold


@dataclass
class ConstantTables:
    """Where each constant lies, and what each variant must supply.

    ``places`` maps a constant to ("weights", byte offset) or ("step", byte offset).
    """

    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    folds: list[FoldRow] = field(default_factory=list)
    step_bytes: int = 0
    parts: list[Floats] = field(default_factory=list)
    """What the variants supply, slot after slot: float32 [variants, floats of the slot]."""

    def variant_values(self) -> list[Floats]:
        """float32 vector of every variant, all of one length."""
        return list(np.concatenate(self.parts, axis=1))


def encode_constants(
    constants: Mapping[str, Constant],
    given: Sequence[Mapping[str, Array]],
    members: Sequence[tuple[int, int]],
    folds: Mapping[str, Fold],
    step_records: Floats,
    weights: WeightStore,
) -> ConstantTables:
    """Tables for one group, whose variant v has initializers ``given[v]`` and is (step, branch) ``members[v]``.

    Raises BuildError when a fold does not reproduce the constant of an exported graph.
    """
    return _Encoder(given, members, folds, step_records, weights).run(constants)


@dataclass
class _Encoder:
    given: Sequence[Mapping[str, Array]]
    members: Sequence[tuple[int, int]]
    known_folds: Mapping[str, Fold]
    step_records: Floats
    weights: WeightStore
    tables: ConstantTables = field(default_factory=ConstantTables)
    varies: dict[str, bool] = field(default_factory=dict)
    slots: dict[tuple[Constant, bool], int] = field(default_factory=dict)
    part_of: dict[int, int] = field(default_factory=dict)
    """First number of a slot -> its index among the parts."""
    length: int = 0

    def run(self, constants: Mapping[str, Constant]) -> ConstantTables:
        self.tables.parts = [np.zeros((len(self.given), 0), np.float32)]
        for name, constant in constants.items():
            if not self.changes(constant):
                self.tables.places[name] = ("weights", self.weights.add(evaluate(constant, self.given[0]), name))
            else:
                self.step_constant(name, constant)
        return self.tables

    def changes(self, *constants: Constant) -> bool:
        """True when one of ``constants`` depends on an initializer that is not the same in all variants."""
        return any(self.differs(source) for constant in constants for source in given_names(constant))

    def differs(self, name: str) -> bool:
        """True when initializer ``name`` is not the same in all variants."""
        if name not in self.varies:
            first, *rest = (given[name] for given in self.given)
            self.varies[name] = any(not same_bits(first, other) for other in rest)
        return self.varies[name]

    def step_constant(self, name: str, constant: Constant) -> None:
        values = [evaluate(constant, given) for given in self.given]
        out = self.allocate(values[0].nbytes)
        self.tables.places[name] = ("step", out)
        if affine := self.affine(name, constant, out):
            rows = [affine, *self.less(constant, out)]
        else:
            row = self.scaled(constant, values, out) or self.integer(constant, out)
            rows = [row] if row else self.copied(name, constant, values, out)
        self.check(name, rows, values)
        self.tables.folds += rows

    def check(self, name: str, rows: list[FoldRow], values: list[Array]) -> None:
        """Raises BuildError unless ``rows``, one after the other, give ``values``."""
        got, records = None, self.step_records[[step for step, _ in self.members]]
        for row in rows:
            # The row's slot is a part of its own, so that its place among the others need not be copied together.
            slot = rows[0].a if row.op == FLIP else row.a
            here = row if row.op == AFFINE else replace(row, a=row.a - slot)
            made = folded(here, records, self.tables.parts[self.part_of.get(slot, 0)], self.weights.data, got)
            got = made if got is None or row.op != FLIP else np.concatenate([got, made], axis=1)
        assert got is not None
        wrong = (rows_of_words(values).view(np.uint32) != got.view(np.uint32)).any(axis=1)
        if wrong.any():
            step, _ = self.members[int(wrong.argmax())]
            raise BuildError(
                f"{name}, step {step}: expected its fold to give the exported constant bit for bit, it does not; "
                "export again with this version"
            )

    def allocate(self, size: int) -> int:
        offset = self.tables.step_bytes
        self.tables.step_bytes += -(-size // ALIGNMENT) * ALIGNMENT
        return offset

    def affine(self, name: str, constant: Constant, out: int) -> FoldRow | None:
        if not isinstance(constant, Given) or constant.name not in self.known_folds:
            return None
        fold = self.known_folds[constant.name]
        if fold.offset + len(fold.base) > self.step_records.shape[1]:
            raise BuildError(
                f"{name}: expected its fold within the {self.step_records.shape[1]} numbers of a step record, got "
                f"{fold.offset} to {fold.offset + len(fold.base)}; export again with this version"
            )
        gain = NONE if fold.gain is None else self.weights.add(fold.gain, f"{name}.gain")
        return FoldRow(AFFINE, len(fold.base), out, fold.offset, self.weights.add(fold.base, f"{name}.base"), gain)

    def less(self, constant: Constant, out: int) -> list[FoldRow]:
        """The center of an affine fold, if it has one, is subtracted where that lies."""
        assert isinstance(constant, Given)
        center = self.known_folds[constant.name].center
        if center is None:
            return []
        slot = self.slot(Given(f"{constant.name}.center"), [center[member] for member in self.members])
        return [FoldRow(LESS, center.shape[-1], out, slot)]

    def scaled(self, constant: Constant, values: list[Array], out: int) -> FoldRow | None:
        if not isinstance(constant, Derived) or constant.rule != "product":
            return None
        scalar, vector = constant.sources
        if not isinstance(scalar, Given) or self.changes(vector):
            return None
        shared = evaluate(vector, self.given[0])
        if evaluate(scalar, self.given[0]).size != 1 or shared.size != values[0].size:
            return None
        slot = self.slot(scalar, [given[scalar.name] for given in self.given])
        return FoldRow(SCALE, shared.size, out, slot, self.weights.add(shared, f"{scalar.name}.scaled"))

    def integer(self, constant: Constant, out: int) -> FoldRow | None:
        """A zero point of the branch times a shared vector, as `tvm_flow.graph.constants` corrects accumulators."""
        if not isinstance(constant, Derived) or constant.rule != "zero_point_correction":
            return None
        point, *shared = constant.sources
        if not isinstance(point, Given) or self.given[0][point.name].size != 1 or self.changes(*shared):
            return None
        one = np.ones_like(self.given[0][point.name])
        vector = RULES[constant.rule](one, *(evaluate(source, self.given[0]) for source in shared))
        slot = self.slot(point, [given[point.name].astype(np.float32) for given in self.given], converted=True)
        return FoldRow(INTEGER, vector.size, out, slot, self.weights.add(vector, f"{point.name}.correction"))

    def copied(self, name: str, constant: Constant, values: list[Array], out: int) -> list[FoldRow]:
        words = rows_of_words(values)
        if np.isfinite(words).all():
            return [FoldRow(COPY, words.shape[1], out, self.slot(constant, values))]
        if values[0].dtype.kind not in "iu":
            raise BuildError(
                f"{name}: expected a constant that changes with the step to be finite floats, got {values[0].dtype} "
                f"{values[0].shape} that a bundle cannot hold; keep this layer in float"
            )
        try:
            parts = flips(words)
        except ValueError as error:
            raise BuildError(f"{name}: {error} of {len(values)} variants; compile fewer steps") from error
        for first, count, bits in parts:
            words.view(np.uint32)[:, first : first + count] ^= np.uint32(bits)
        slot = self.slot(constant, list(words))
        return [FoldRow(FLIP, count, out + 4 * first, slot + first, bits) for first, count, bits in parts]

    def slot(self, constant: Constant, values: list[Array], converted: bool = False) -> int:
        """Index of ``values`` in the variants' float vectors; ``converted``: they are a float form of ``constant``."""
        key = constant, converted
        if key not in self.slots:
            self.slots[key] = self.length
            self.part_of[self.length] = len(self.tables.parts)
            self.tables.parts.append(rows_of_words(values))
            self.length += self.tables.parts[-1].shape[1]
        return self.slots[key]
