"""Lowered TIR as a GLSL compute shader.

Loops over threads become the workgroup's and the invocation's number, everything else what it is in C. A loop over the
elements of an output's 32-bit word (`tvm_flow.backends.vulkan.schedules.WORD`) collects them and stores the word once,
with zeros for elements past the end: bytes are never written by two invocations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

from tvm import ir, tirx
from tvm.sym import Analyzer

from tvm_flow.backends.vulkan.arithmetic import definitions
from tvm_flow.backends.vulkan.expressions import CannotPrint, Expressions, Writer
from tvm_flow.backends.vulkan.places import BINDINGS, ELEMENTS, KINDS, ArgumentPlace, OwnPlace, bits_of
from tvm_flow.backends.vulkan.schedules import WORD
from tvm_flow.graph.types import Expr, PrimFunc, Var

MOST_GROUPS = 65535
"""Workgroups along one axis that every device has."""
MOST_PRIVATE = 4096
"""Bytes of an invocation's own arrays."""
_THREADS = {"blockIdx.x": "group", "threadIdx.x": "lane"}


@dataclass
class _Word:
    """The word that a loop over its elements collects."""

    element: Var
    name: str
    at: str = ""
    """GLSL of its index, once a store has been seen."""


@dataclass
class _Printer:
    to: Expressions
    extents: dict[str, int] = field(default_factory=lambda: {"blockIdx.x": 1, "threadIdx.x": 1})
    own: list[OwnPlace] = field(default_factory=list)
    word: _Word | None = None

    def statement(self, stmt: Expr) -> None:
        kind = type(stmt).__name__
        if kind not in _STATEMENTS:
            raise CannotPrint(f"statement {kind}")
        self.to.writer.known.clear()
        _STATEMENTS[kind](self, stmt)

    def sequence(self, stmt: Expr) -> None:
        for part in stmt.seq:
            self.statement(part)

    def attribute(self, stmt: Expr) -> None:
        key = str(stmt.attr_key)
        if key == "thread_extent":
            tag = str(stmt.node.thread_tag)
            if tag not in _THREADS or not isinstance(stmt.value, tirx.IntImm):
                raise CannotPrint(f"threads {tag} of extent {stmt.value}")
            self.extents[tag] = int(stmt.value)
            self.bound(stmt.node.var, _THREADS[tag], self.extents[tag])
        elif key != "reduce_scope":
            raise CannotPrint(f"attribute {key}")
        self.statement(stmt.body)

    def bound(self, variable: Var, name: str, extent: int) -> None:
        self.to.names[variable] = name
        dtype = str(variable.ty.dtype)
        self.to.analyzer.bind(variable, ir.Range.from_min_extent(tirx.const(0, dtype), tirx.const(extent, dtype)))

    def allocation(self, stmt: Expr) -> None:
        buffer = stmt.buffer
        scope, dtype = str(buffer.scope()), str(buffer.dtype)
        if scope not in ("local", "shared") or dtype not in KINDS:
            raise CannotPrint(f"buffer {buffer.name} of scope {scope} and type {dtype}")
        elements = prod(int(extent) for extent in buffer.shape)
        place = OwnPlace(f"{scope}{len(self.own)}", dtype, elements, scope == "shared")
        self.own.append(place)
        self.to.places[buffer] = place

    def declaration(self, stmt: Expr) -> None:
        """Another shape of a buffer that is there."""
        (source,) = getattr(stmt.data, "args", (None,))
        if source not in self.to.places:
            raise CannotPrint(f"buffer {stmt.buffer.name} over {stmt.data}")
        self.to.places[stmt.buffer] = self.to.places[source]

    def bind(self, stmt: Expr) -> None:
        kind = KINDS.get(str(stmt.value.ty.dtype))
        if kind is None:
            raise CannotPrint(f"value of type {stmt.value.ty}")
        name = self.to.writer.fresh("let")
        self.to.writer.line(f"{kind} {name} = {self.to.value(stmt.value)};")
        self.to.names[stmt.var] = name

    def loop(self, stmt: Expr) -> None:
        if not isinstance(stmt.extent, tirx.IntImm) or int(stmt.min) != 0 or int(stmt.kind) not in (0, 3):
            raise CannotPrint(f"loop over {stmt.loop_var.name} of kind {stmt.kind} and extent {stmt.extent}")
        extent = int(stmt.extent)
        if WORD in stmt.annotations and extent > 1:
            self.word_loop(stmt, extent)
            return
        name = self.to.writer.fresh("i")
        self.bound(stmt.loop_var, name, extent)
        with self.to.writer.block(f"for (int {name} = 0; {name} < {extent}; {name}++) {{"):
            self.statement(stmt.body)

    def word_loop(self, stmt: Expr, extent: int) -> None:
        writer, name = self.to.writer, self.to.writer.fresh("e")
        word = self.word = _Word(stmt.loop_var, writer.fresh("word"))
        self.bound(stmt.loop_var, name, extent)
        writer.line(f"uint {word.name} = 0u, at_{word.name} = 0xffffffffu;")
        with writer.block(f"for (int {name} = 0; {name} < {extent}; {name}++) {{"):
            self.statement(stmt.body)
        writer.line(f"if (at_{word.name} != 0xffffffffu) {word.at} = {word.name};")
        self.word = None

    def branch(self, stmt: Expr) -> None:
        writer = self.to.writer
        with writer.block(f"if ({self.to.value(stmt.condition)}) {{"):
            self.statement(stmt.then_case)
        if stmt.else_case is not None:
            with writer.block("else {"):
                self.statement(stmt.else_case)

    def store(self, stmt: Expr) -> None:
        place, value = self.to.place(stmt.buffer), self.to.value(stmt.value)
        index = self.to.index(stmt.buffer, list(stmt.indices))
        writer = self.to.writer
        if isinstance(place, OwnPlace):
            writer.line(f"{place.load(index)} = {value};")
        elif place.per_word == 1:
            writer.line(f"{place.word(index)} = {place.bits(value)};")
        else:
            self.store_part(place, stmt.indices[0], value)

    def store_part(self, place: ArgumentPlace, index: Expr, value: str) -> None:
        """Into the word of a loop over its elements, of which ``index`` has to be the next ones from its start."""
        word, writer = self.word, self.to.writer
        if word is None:
            raise CannotPrint(f"store of {place.dtype} outside of a loop over the elements of a word")
        first = Analyzer()
        first.bind(word.element, tirx.const(0, str(word.element.ty.dtype)))
        start = first.simplify(index)
        aligned = self.to.analyzer.modular_set(start)
        whole = aligned.coeff % place.per_word == 0 and aligned.base % place.per_word == 0
        if not whole or not self.to.analyzer.can_prove_equal(index, start + word.element):
            raise CannotPrint(f"store of {place.dtype} at {index}, which is not one word's elements in order")
        element = self.to.names[word.element]
        writer.line(f"{word.name} |= {place.bits(value)} << uint({element} * {bits_of(place.dtype)});")
        shift = place.per_word.bit_length() - 1
        writer.line(f"at_{word.name} = uint({self.to.value(start)} >> {shift});")
        word.at = place.word(f"at_{word.name}")

    def evaluate(self, stmt: Expr) -> None:
        name = str(getattr(getattr(stmt.value, "op", None), "name", ""))
        if name.endswith("tvm_storage_sync"):
            self.to.writer.line("barrier();")
        elif not isinstance(stmt.value, tirx.IntImm):
            raise CannotPrint(f"call of {name or stmt.value}")


_STATEMENTS: Mapping[str, Callable[[_Printer, Expr], None]] = {
    "SeqStmt": _Printer.sequence,
    "AttrStmt": _Printer.attribute,
    "AllocBuffer": _Printer.allocation,
    "DeclBuffer": _Printer.declaration,
    "Bind": _Printer.bind,
    "For": _Printer.loop,
    "IfThenElse": _Printer.branch,
    "BufferStore": _Printer.store,
    "Evaluate": _Printer.evaluate,
}


@dataclass(frozen=True)
class Printed:
    """A shader's text, and how it is started."""

    glsl: str
    local: int
    groups: int
    shared_bytes: int
    specialization: tuple[int, ...] = ()


def arguments_of(function: PrimFunc, spaces: tuple[str, ...]) -> tuple[ArgumentPlace, ...]:
    """Places of the parameters of a kernel, p0 and so on and then ``result``; raises CannotPrint for a type."""
    places = []
    for number, parameter in enumerate(function.params):
        elements = prod(int(extent) for extent in parameter.shape)
        dtype = str(parameter.dtype)
        if dtype not in ELEMENTS or elements >= 2**31:
            raise CannotPrint(f"argument {number} of {elements} elements of {dtype}")
        name = "result" if number + 1 == len(function.params) else f"p{number}"
        places.append(ArgumentPlace(name, dtype, elements, spaces[number]))
    return tuple(places)


def print_shader(function: PrimFunc, arguments: tuple[ArgumentPlace, ...]) -> Printed:
    """GLSL of lowered TIR, without its first lines; raises CannotPrint naming a construct."""
    writer = Writer(depth=2)
    printer = _Printer(Expressions(writer))
    printer.to.places.update(zip(function.params, arguments, strict=True))
    printer.statement(function.body)
    private = sum(4 * place.elements for place in printer.own if not place.shared)
    if private > MOST_PRIVATE:
        raise CannotPrint(f"arrays of {private} bytes of one invocation, beyond {MOST_PRIVATE}")
    groups, local = printer.extents["blockIdx.x"], printer.extents["threadIdx.x"]
    text = "".join(
        [
            head(arguments, local),
            *(place.declaration() + "\n" for place in printer.own if place.shared),
            definitions(frozenset(writer.called)),
            "\nvoid main() {\n",
            *("  int lane = int(gl_LocalInvocationID.x);\n", f"  {GROUP_NUMBER}\n", f"  if (group < {groups}) {{\n"),
            *(f"    {place.declaration()}\n" for place in printer.own if not place.shared),
            *(line + "\n" for line in writer.lines),
            "  }\n}\n",
        ]
    )
    shared = sum(4 * place.elements for place in printer.own if place.shared)
    return Printed(text, local, groups, shared)


GROUP_NUMBER = "int group = int(gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x);"


def grid_of(groups: int) -> tuple[int, int, int]:
    """Workgroups along the axes, at least ``groups`` together."""
    rows = -(-groups // MOST_GROUPS)
    return -(-groups // rows), rows, 1


def head(arguments: tuple[ArgumentPlace, ...], local: int) -> str:
    """Declarations of a shader over ``arguments``, and the functions that read them."""
    written = arguments[-1].space
    lines = [f"layout(local_size_x = {local}) in;\n"]
    for space in sorted({place.space for place in arguments}, key=BINDINGS.__getitem__):
        access = "" if space == written else "readonly "
        lines.append(
            f"layout(std430, set = 0, binding = {BINDINGS[space]}) {access}buffer {space.title()} "
            f"{{ uint {space}[]; }};\n"
        )
    lines.append(f"layout(push_constant) uniform Places {{ uint {', '.join(a.offset for a in arguments)}; }};\n")
    lines += [place.reader() for place in arguments[:-1]]
    return "".join(lines)
