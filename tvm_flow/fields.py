"""Configurations that cannot hold a wrong value: types and limits stand at their fields, pydantic holds them to it.

    @dataclass(frozen=True)
    class Wish:
        steps: Annotated[int, whole(1, MAX_STEPS)] = 30

        def __post_init__(self) -> None:
            check_fields(self, "wish: ")

Nothing is converted: a bool is no number, 1.0 is no whole number, and no text is a number; a whole number may stand
where any number may. Files are read by `read_yaml`, their mappings made into a configuration by `from_mapping`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from tvm_flow.documents import YAML_MOST, parse_yaml, read_small
from tvm_flow.errors import ConfigError

Config = TypeVar("Config")
SHOWN = 120
"""Characters of a value that an error shows."""


def whole(low: int, high: int) -> Any:
    """The limit of a field that is a whole number from ``low`` to ``high``."""
    return Field(ge=low, le=high, description=f"a whole number from {low} to {high}")


def number(low: float, high: float) -> Any:
    """The limit of a field that is a number from ``low`` to ``high``."""
    return Field(ge=low, le=high, allow_inf_nan=False, description=f"a number from {low:g} to {high:g}")


def positive(high: float) -> Any:
    """The limit of a field that is a number above 0, at most ``high``."""
    return Field(gt=0, le=high, allow_inf_nan=False, description=f"a number above 0, at most {high:g}")


def text() -> Any:
    """The limit of a field that is text, not blank."""
    return Field(pattern=r"\S", description="text")


def described(what: str, least: int | None = None) -> Any:
    """Says what a field holds where its type does not say it well; a list of ``least`` items or more."""
    return Field(min_length=least, description=what)


def check_fields(config: Any, where: str, keys: Mapping[str, str] | None = None) -> None:
    """Hold the dataclass ``config`` to the types and limits of its fields.

    Raises ConfigError, one line: ``where``, each wrong key (that of ``keys`` where it has one), expected and got.
    """
    names = [field.name for field in dataclasses.fields(config)]
    model = _model(type(config))  # type: ignore[arg-type]  # a class is hashable
    try:
        model.model_validate({name: getattr(config, name) for name in names})
    except ValidationError as error:
        wrong = {str(each["loc"][0]): each for each in reversed(error.errors(include_url=False))}
        told = []
        for name in sorted(wrong, key=names.index):
            value, field = getattr(config, name), model.model_fields[name]
            if len(f"{value}") > SHOWN and len(wrong[name]["loc"]) > 1:  # a long list: its first wrong item
                value = wrong[name]["input"]
            told.append(f"{where}{(keys or {}).get(name, name)}: expected {_expected(field)}, got {_got(value)}")
        raise ConfigError("; ".join(told)) from None


def from_mapping(kind: type[Config], where: str, values: Any) -> Config:
    """``kind`` of the mapping ``values``, which has passed through YAML or JSON; kind checks its values itself.

    Raises ConfigError for what is no mapping, unknown keys and missing ones.
    """
    require_keys(kind, where, values)
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def require_keys(kind: type[Any], where: str, values: Any) -> None:
    """Raise ConfigError when ``values`` is no mapping of the fields of ``kind``, or lacks one without a default."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where}expected a mapping with keys among {sorted(fields)}, got {type(values).__name__} {_got(values)}"
        )
    unknown = sorted(map(str, set(values) - set(fields)))
    if unknown:
        raise ConfigError(f"{where}unknown keys {unknown}; have {sorted(fields)}; remove or rename them")
    missing = [name for name, field in fields.items() if _is_required(field) and name not in values]
    if missing:
        raise ConfigError(f"{where}missing keys {missing}; have {sorted(values)}; add them")


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file; raises ConfigError naming the file, and ``what`` it should be."""
    try:
        return parse_yaml(read_small(path, YAML_MOST))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a readable YAML {what}, got: {error}; check the path") from error


@functools.cache
def _model(kind: type[Any]) -> type[BaseModel]:
    """A model of the fields of ``kind``, which the dataclass itself stays free of."""
    hints = get_type_hints(kind, include_extras=True)
    strict = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    fields: dict[str, Any] = {field.name: (hints[field.name], ...) for field in dataclasses.fields(kind)}
    return create_model(kind.__name__, __config__=strict, **fields)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _expected(field: FieldInfo) -> str:
    return field.description or f"a {getattr(field.annotation, '__name__', field.annotation)}"


def _got(value: object) -> str:
    shown = repr(list(value) if isinstance(value, tuple) else value)[:SHOWN]  # as it is written in a file
    if not isinstance(value, str):
        return shown
    try:
        float(value)
    except ValueError:
        return shown
    # YAML 1.1 takes 1e1 for text: its numbers have a point.
    return f"the text {shown}; write a number without quotes, with a point where it has an exponent (1.0e+1)"
