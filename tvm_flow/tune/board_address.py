"""Where a board is found: a tracker and a key of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tvm_flow.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Board:
    """A key of a tracker: any board that registers under it."""

    host: str
    port: int
    key: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.key}"

    @property
    def risk(self) -> str:
        """What a person should know of this address; "" on loopback."""
        if self.host in _LOOPBACK:
            return ""
        return (
            f"{self.host}:{self.port} is not loopback: TVM's RPC has no authentication and no encryption, and whoever "
            f"reaches it runs code on the board; use ssh -N -L {self.port}:localhost:{self.port} {self.host}"
        )


def parse_board(text: str) -> Board:
    """Of HOST:PORT/KEY; raises ConfigError."""
    found = re.fullmatch(r"(\[?[\w.:-]+\]?):(\d{1,5})/([\w.-]+)", text)
    if found is None or not 0 < int(found[2]) < 2**16:
        raise ConfigError(f"board {text!r}: expected HOST:PORT/KEY like localhost:9190/rpi5, a tracker and a key of it")
    return Board(found[1].strip("[]"), int(found[2]), found[3])
