"""TOML to frozen pydantic models; an unknown key is an error that names the nearest known one."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cifasr.errors import ConfigError


class Config(BaseModel):
    """Base of every configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(kind: type[ConfigT], path: Path | None = None, overrides: Iterable[str] = ()) -> ConfigT:
    """Read a configuration: defaults, then the file, then ``key=value`` overrides.

    Args:
        kind: The configuration class.
        path: TOML file with the differences from the defaults; None for defaults only.
        overrides: Items like ``optim.lr=1e-3``; the value is read as TOML, or as a plain string where it is not TOML.

    Raises:
        ConfigError: The file is unreadable, or a key or a value does not fit; the message names it.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"config file {path}: {error}") from error
    for item in overrides:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise ConfigError(f"override {item!r}: wanted key=value, for example optim.lr=1e-3")
        _set_key(data, key.strip(), _toml_value(value.strip()))
    return parse_config(kind, data)


def parse_config(kind: type[ConfigT], data: Mapping[str, Any]) -> ConfigT:
    """Validate a mapping as a configuration; see `load_config` for the errors."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(kind, e) for e in error.errors())) from error


def _set_key(data: dict[str, Any], dotted: str, value: object) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"override {dotted}: {parent} is a value, not a table")
    data[last] = value


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(kind: type[BaseModel], error: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails is a loose dict)
    location = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"config key {location}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"
    near = difflib.get_close_matches(str(error["loc"][-1]), _known_keys(kind, error["loc"][:-1]), n=1)
    return f"unknown key {location}" + (f"; did you mean {near[0]!r}?" if near else "")


def _known_keys(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = kind.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        kind = field.annotation
    return list(kind.model_fields)
