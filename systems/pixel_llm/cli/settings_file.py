"""Options as a TOML file: one flat table, named as the flags are (`learning_rate = 0.001`); unknown names are errors.

TOML has no null: an option that is left out has its default, and one that is to be None where its default is not says
"none". No torch is loaded by this module.
"""

import tomllib
import types
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tomli_w

from systems.pixel_llm.errors import ConfigError, nearest_name_hint

__all__ = ["read_settings", "write_settings"]

NONE = "none"
# Which of several runs is meant is said on the command line, never by a file.
NOT_IN_FILES = frozenset({"out", "resume", "config"})
# Written for the reader, since a run should tell what it was trained on; read it is from the command line.
TOLD_ONLY = frozenset({"data"})


def read_settings(path: Path) -> dict[str, Any]:
    """Name -> value, each checked against the type of the option of that name.

    Raises:
        ConfigError: the file is missing or no TOML, a name is unknown, or a value is of another type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors put a mark in front
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such settings file.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable TOML file ({error}).") from error
    types_of_options = _types_of_options()
    settings = {}
    for name, value in table.items():
        if name in TOLD_ONLY:
            continue
        if name not in types_of_options:
            hint = nearest_name_hint(name, types_of_options)
            if isinstance(value, dict):
                hint = "Options stand in one flat table, without [headings]."
            raise ConfigError(f"{path}: unknown option {name!r}. {hint}")
        settings[name] = _converted(value, types_of_options[name], f"{path}: {name}")
    return settings


def write_settings(path: Path, settings: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> None:
    """Write a file that `read_settings` gives back; None is left out where it is the default too."""
    table = {}
    for name, value in settings.items():
        if name in NOT_IN_FILES or (value is None and defaults.get(name) is None):
            continue
        table[name] = NONE if value is None else _toml_value(value)
    # Written beside it and renamed, so that a run killed here still has the options it began with.
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(tomli_w.dumps(table), encoding="utf-8", errors="replace")  # a name of bytes that are no text
    beside.replace(path)


@cache
def _types_of_options() -> dict[str, Any]:
    from systems.pixel_llm.cli.options import TrainCommand

    hints: dict[str, Any] = {}
    for part in fields(TrainCommand):
        if part.name != "data":
            hints |= get_type_hints(get_type_hints(TrainCommand)[part.name])
    return {name: hint for name, hint in hints.items() if name not in NOT_IN_FILES}


def _converted(value: Any, wanted: Any, where: str) -> Any:
    """`value` as `wanted`, a type made of int, float, bool, str, Path, None, Literal, tuple and unions of them."""
    options = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    if type(None) in options and value == NONE:  # before text and paths, which could have any name
        return None
    for option in options:
        if get_origin(option) is Literal and value in get_args(option):
            return value
        if get_origin(option) is tuple and isinstance(value, list):
            kinds = get_args(option)
            if kinds[1:] == (...,):  # as many as there are, all of one kind
                kinds = kinds[:1] * len(value)
            if len(value) == len(kinds):
                return tuple(_converted(each, kind, where) for each, kind in zip(value, kinds, strict=True))
        if option is Path and isinstance(value, str):
            return Path(value)
        if option is float and type(value) in (int, float):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise ConfigError(f"{where} must be {_spelled(wanted)}, not {value!r}.")


def _spelled(wanted: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path in quotes"}
    if get_origin(wanted) in (Union, types.UnionType):
        return " or ".join(_spelled(option) for option in get_args(wanted))
    if get_origin(wanted) is Literal:
        return " or ".join(repr(option) for option in get_args(wanted))
    if get_origin(wanted) is tuple:
        return f"[{', '.join('...' if option is ... else _spelled(option) for option in get_args(wanted))}]"
    return f'"{NONE}"' if wanted is type(None) else names[wanted]


def _toml_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_toml_value(each) for each in value]
    return str(value) if isinstance(value, Path) else value
