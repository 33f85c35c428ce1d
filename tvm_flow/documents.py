"""YAML and JSON from anywhere: bounded in size, depth and time before anything is made of them.

A file may nest `DEEPEST` levels, aliases counted at each place that names them, so that none expands without bound. A
key stands once in its mapping, a number has at most `LONGEST_NUMBER` characters, one of JSON is finite, and text is
Unicode that can be written again. What is refused is a ValueError with the cause; the caller says which file, and
what it should be.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

YAML_MOST = 1 << 20
"""Bytes: ten thousand long prompts; PyYAML reads a megabyte in seconds."""
JSON_MOST = 64 << 20
DEEPEST = 64
MOST_VALUES = 1_000_000
"""Of a YAML file, each alias counted with all that it stands for."""
LONGEST_NUMBER = 400
"""Characters; Python's own bound on digits is 4300, and its errors cannot be printed beyond it."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKETS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]|-?[0-9][0-9.eE+-]*', re.S)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_small(path: Path, most: int) -> bytes:
    """The bytes of the regular file ``path``; raises OSError, or ValueError for another kind and above ``most``.

    Neither a FIFO nor a device is waited for, and the size is looked at before memory is taken.
    """
    with open(path, "rb", opener=_without_waiting) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no regular file")
        if status.st_size > most:
            raise ValueError(f"{status.st_size} bytes, of at most {most}")
        return stream.read(most)


def parse_json(data: bytes) -> Any:
    """The value of JSON text in UTF-8, a byte order mark before it or not; raises ValueError."""
    _bound_json(data)
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_own_keys, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError(f"more than {DEEPEST} levels") from error
    _require_plain(value)
    return value


def parse_yaml(data: bytes) -> Any:
    """The value of YAML text; raises ValueError."""
    if len(data) > YAML_MOST:
        raise ValueError(f"{len(data)} bytes, of at most {YAML_MOST}")
    try:
        value = _composed(data)
    except RecursionError as error:
        raise ValueError(f"more than {DEEPEST} levels") from error
    except (LookupError, AttributeError, TypeError, yaml.YAMLError) as error:  # of a tag that its text does not fit
        raise ValueError(str(error) or type(error).__name__) from error
    _require_plain(value, finite=False)  # `tvm_flow.fields` names the field
    return value


def _composed(data: bytes) -> Any:
    loader = _Bounded(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 0)
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Bounded(yaml.SafeLoader):
    """YAML's own loader looks ahead at every open level, and of a key that stands twice takes the last."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        counts = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := next((key for key, count in counts.items() if count > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[1]!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _measure(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Values in ``node``; those of ``known`` were counted before, and are 0 while they are being counted."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} levels")
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an alias inside what it stands for")
        return known[id(node)]
    known[id(node)] = 0
    if isinstance(node, yaml.ScalarNode):
        numeric = node.tag.endswith((":int", ":float"))
        if numeric and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value)} characters, of at most {LONGEST_NUMBER}")
        parts: list[yaml.Node] = []
    else:
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
    total = 1 + sum(_measure(part, known, depth + 1) for part in parts)
    if total > MOST_VALUES:
        raise ValueError(f"aliases that stand for more than {MOST_VALUES} values")
    known[id(node)] = total
    return total


def _bound_json(data: bytes) -> None:
    """Depth and numbers, before the parser recurses or converts."""
    if len(data) > JSON_MOST:
        raise ValueError(f"{len(data)} bytes, of at most {JSON_MOST}")
    depth = 0
    for found in _STRUCTURE.finditer(data):
        first = data[found.start()]
        depth += _BRACKETS.get(first, 0)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        if first != ord('"') and found.end() - found.start() > LONGEST_NUMBER:
            raise ValueError(f"a number of {found.end() - found.start()} characters, of at most {LONGEST_NUMBER}")


def _own_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} twice")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word}, which is no number of JSON")


def _require_plain(value: Any, finite: bool = True) -> None:
    """Finite numbers where asked, and text without half characters; what an alias names is looked at once."""
    todo, seen = [value], set[int]()
    while todo:
        each = todo.pop()
        if isinstance(each, str):
            if _SURROGATE.search(each):
                raise ValueError("half a character (a lone surrogate)")
        elif isinstance(each, float):
            if finite and not math.isfinite(each):
                raise ValueError(f"the number {each}, which is not finite")
        elif isinstance(each, dict | list | tuple | set) and id(each) not in seen:
            seen.add(id(each))
            todo += [*each, *each.values()] if isinstance(each, dict) else [*each]
