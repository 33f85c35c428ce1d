"""The linear layers of STDiT3-XL: K and N are the hidden size, its triple (qkv) and its quadruple (MLP)."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.errors import ConfigError

WIDTHS = (1152, 3456, 4608)
ROWS = (256, 1024, 4096)


@dataclass(frozen=True)
class Shape:
    """X [m, k] times W [k, n]."""

    m: int
    k: int
    n: int

    @property
    def macs(self) -> int:
        """Multiplications of one product."""
        return self.m * self.k * self.n

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.n}"


STDIT = tuple(Shape(m, k, n) for k in WIDTHS for n in WIDTHS for m in ROWS)


def parse_shapes(texts: list[str]) -> tuple[Shape, ...]:
    """Shapes from M,K,N texts, or all of STDiT's when there are none; raises ConfigError."""
    return tuple(_parse(text) for text in texts) or STDIT


def _parse(text: str) -> Shape:
    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise ConfigError(f"shape {text!r}: expected M,K,N as three positive numbers; for instance 256,1152,4608")
    return Shape(*(int(size) for size in sizes))
