"""Where the elements of a kernel's buffers are, and the GLSL that reads and writes them.

Arguments lie in storage buffers of 32-bit words, from which bytes and half words are taken; what a shader keeps to
itself are plain variables, integers of whatever width as ``int`` in the range of their type.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    **{"float32": "float", "int32": "int", "uint32": "uint", "int16": "int", "uint16": "int"},
    **{"int8": "int", "uint8": "int", "bool": "bool"},
}
"""GLSL's type for values of an element type."""
BINDINGS = {"arena": 0, "weights": 1, "step": 2, "prompt": 3}
"""Binding of each space in descriptor set 0."""
ELEMENTS = ("float32", "int32", "uint32", "int16", "uint16", "int8", "uint8")
"""Element types of arguments."""


def bits_of(dtype: str) -> int:
    """Bits of an element in memory."""
    return int("".join(filter(str.isdigit, dtype)))


@dataclass(frozen=True)
class ArgumentPlace:
    """Argument ``name`` in the words of ``space``; a function of its name reads it."""

    name: str
    dtype: str
    elements: int
    space: str

    @property
    def offset(self) -> str:
        """The push constant that says where it begins."""
        return f"at_{self.name}"

    @property
    def per_word(self) -> int:
        """Elements of a word."""
        return 32 // bits_of(self.dtype)

    def load(self, index: str) -> str:
        """The element at ``index``."""
        return f"{self.name}({index})"

    def word(self, index: str) -> str:
        """The word ``index`` of it."""
        return f"{self.space}[{self.offset} + uint({index})]"

    def reader(self) -> str:
        """Definition of the function that `load` calls."""
        return f"{KINDS[self.dtype]} {self.name}(int i) {{ return {self._read()}; }}\n"

    def _read(self) -> str:
        if self.per_word == 1:
            return {"float32": f"uintBitsToFloat({self.word('i')})", "int32": f"int({self.word('i')})"}.get(
                self.dtype, self.word("i")
            )
        bits, shift = bits_of(self.dtype), self.per_word.bit_length() - 1
        word = self.word(f"i >> {shift}")
        part = f"(i & {self.per_word - 1}) * {bits}, {bits}"
        if self.dtype.startswith("u"):
            return f"int(bitfieldExtract({word}, {part}))"
        return f"bitfieldExtract(int({word}), {part})"

    def bits(self, value: str) -> str:
        """``value`` as a word, or as the low bits of one with nothing above them."""
        if self.dtype == "float32":
            return f"floatBitsToUint({value})"
        return f"uint({value})" if self.per_word == 1 else f"(uint({value}) & {(1 << bits_of(self.dtype)) - 1}u)"


@dataclass(frozen=True)
class OwnPlace:
    """A variable or an array of the invocation, or of the workgroup where ``shared``."""

    name: str
    dtype: str
    elements: int
    shared: bool

    def load(self, index: str) -> str:
        """The element at ``index``."""
        return self.name if self.elements == 1 else f"{self.name}[{index}]"

    def declaration(self) -> str:
        """Of a variable; an array in memory that is shared holds 4 bytes for an element whatever its type."""
        size = "" if self.elements == 1 else f"[{self.elements}]"
        return f"{'shared ' if self.shared else ''}{KINDS[self.dtype]} {self.name}{size};"


Place = ArgumentPlace | OwnPlace
