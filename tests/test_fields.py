"""Configurations: what a field may hold is said once, and every wrong value is named with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, number, positive, read_yaml, text, whole


@dataclass(frozen=True)
class Wish:
    count: Annotated[int, whole(1, 9)]
    share: Annotated[float, number(0, 1)] = 0.5
    rate: Annotated[float | None, positive(100)] = None
    name: Annotated[str, text()] = "any"
    pair: Annotated[tuple[int, int], described("[low, high]")] = (0, 1)
    switch: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "wish: ", {"count": "wish_count"})


@dataclass(frozen=True)
class Lines:
    lines: Annotated[tuple[Annotated[str, text()], ...], described("a list of texts", least=1)]

    def __post_init__(self) -> None:
        check_fields(self, "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "wish: wish_count: expected a whole number from 1 to 9, got 0"),
        ({"count": True}, "wish: wish_count: expected a whole number from 1 to 9, got True"),
        ({"count": 2.0}, "wish: wish_count: expected a whole number from 1 to 9, got 2.0"),
        ({"share": float("nan")}, "wish: share: expected a number from 0 to 1, got nan"),
        ({"share": False}, "wish: share: expected a number from 0 to 1, got False"),
        ({"share": "0.5"}, "wish: share: expected a number from 0 to 1, got the text '0.5'; write a number without"),
        ({"rate": 0}, "wish: rate: expected a number above 0, at most 100, got 0"),
        ({"rate": float("inf")}, "wish: rate: expected a number above 0, at most 100, got inf"),
        ({"name": " "}, "wish: name: expected text, got ' '"),
        ({"name": 3}, "wish: name: expected text, got 3"),
        ({"pair": [1, 2, 3]}, "wish: pair: expected [low, high], got [1, 2, 3]"),
        ({"switch": 1}, "wish: switch: expected a bool, got 1"),
        ({"more": 1}, "wish: unknown keys ['more']; have ['count', 'name', 'pair', 'rate', 'share', 'switch']"),
        ({3: 1}, "wish: unknown keys ['3']"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(wrong: dict[object, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Wish, "wish: ", {"count": 1, **wrong})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_right_values_stay_what_they_are() -> None:
    wish = from_mapping(Wish, "wish: ", {"count": 9, "share": 1, "rate": None, "pair": [3, 4]})
    assert wish == Wish(9, share=1, pair=(3, 4))
    assert type(wish.share) is int


@pytest.mark.parametrize("values", [None, 3, ["count"], "count"])
def test_what_is_no_mapping_is_refused(values: object) -> None:
    with pytest.raises(ConfigError, match=f"wish: expected a mapping .* got {type(values).__name__}"):
        from_mapping(Wish, "wish: ", values)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"wish: missing keys \['count'\]"):
        from_mapping(Wish, "wish: ", {})


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Wish, "wish: ", {"count": "x" * 10_000})
    assert len(str(caught.value)) < 300


def test_of_a_long_list_the_wrong_item_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"lines: expected a list of texts, got 3$"):
        Lines((*["a line"] * 100, 3, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"a: 2001-99-99", b"a: !!python/object:os.system x"])
def test_yaml_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"w\.yaml: expected a readable YAML wish, got: "):
        read_yaml(tmp_path / "w.yaml", "wish")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("count: 3\nname: a\ncount: 4\n")
    with pytest.raises(ConfigError, match="the key 'count' twice"):
        read_yaml(tmp_path / "w.yaml", "wish")
    (tmp_path / "w.yaml").write_text("- {count: 3}\n- {count: 4}\n")
    assert read_yaml(tmp_path / "w.yaml", "wish") == [{"count": 3}, {"count": 4}]


def test_yaml_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("\ufeffcount: 3\n", encoding="utf-8")
    assert read_yaml(tmp_path / "w.yaml", "wish") == {"count": 3}
