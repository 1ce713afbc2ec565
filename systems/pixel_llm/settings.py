"""What a setting accepts, written once: in the type of its field, as in `Annotated[float, Accepts(above=0)]`.

Settings are fields of frozen dataclasses. `check_settings` holds a record against the types of its fields, and raises
the error that a person reads; help and the page of all settings tell the same from the same types (`told_values`). What
two settings may not be together is checked by the record itself. Layer 0: standard library only.
"""

import math
import os
import types
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from systems.pixel_llm.errors import ConfigError

__all__ = ["BOTH", "Accepts", "Count", "Share", "accepted", "check_settings", "told_values"]


@dataclass(frozen=True, kw_only=True)
class Accepts:
    """What a setting accepts beyond what its type says; stands in an `Annotated` beside the type.

    A range is of numbers, of each number where there are several. None, where the type has it, is always in range.
    """

    above: float = -math.inf
    at_least: float = -math.inf
    below: float = math.inf
    at_most: float = math.inf
    form: str | None = None
    """What the value looks like, where its type does not tell ("names with commas between them")."""
    advice: str | None = None
    """A sentence for whoever gave a value that is not accepted."""

    def has_in_range(self, value: Any) -> bool:
        """Whether every number that `value` is or holds is finite and in range."""
        if isinstance(value, tuple):
            return all(map(self.has_in_range, value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return self.above < value < self.below and self.at_least <= value <= self.at_most

    @property
    def told_range(self) -> str:
        """Such as "at least 0 and below 1", or "from 1 to 64"; nothing where there is no range."""
        if math.isfinite(self.at_least) and math.isfinite(self.at_most):
            return f"from {_number(self.at_least)} to {_number(self.at_most)}"
        limits = [
            ("above", self.above), ("at least", self.at_least), ("below", self.below), ("at most", self.at_most),
        ]  # fmt: skip
        return " and ".join(f"{word} {_number(limit)}" for word, limit in limits if math.isfinite(limit))


BOTH = "True or False"

Count = Annotated[int, Accepts(at_least=1)]
Share = Annotated[float, Accepts(at_least=0, below=1)]


def check_settings(record: Any, *, passed_over: Collection[str] = ()) -> None:
    """Hold every field of a dataclass against its type.

    Args:
        record: the dataclass; fields that are dataclasses themselves have been checked by themselves.
        passed_over: fields that are not looked at.

    Raises:
        ConfigError: a value is not accepted; the message names the setting, what is accepted, and what was found.
    """
    kind: Any = type(record)
    for name, hint in _hints_of(kind).items():
        value = getattr(record, name)
        if name in passed_over or _fits(value, hint):
            continue
        told, advice = told_values(hint), accepted(hint).advice
        if isinstance(value, float) and not math.isfinite(value):
            told = told.replace("a number", "a finite number")
        raise ConfigError(f"{name} must be {told}, not {value!r}.{'' if advice is None else f' {advice}'}")


def accepted(hint: Any) -> Accepts:
    """The `Accepts` in a type, or one that limits nothing."""
    if get_origin(hint) is Annotated:
        for each in get_args(hint)[1:]:
            if isinstance(each, Accepts):
                return each
        return accepted(get_args(hint)[0])
    found = [each for part in get_args(hint) if (each := accepted(part)) != Accepts()]
    return found[0] if found else Accepts()


def told_values(hint: Any, *, none: str = "None") -> str:
    """What a type accepts, in words: "a number above 0", "one of 'auto', 'bar', 'off'", "a path, or None".

    `none` is how None is written.
    """
    members = _members(hint)
    can_be_none = type(None) in members
    kinds = [each for each in members if each is not type(None)]
    limits = accepted(hint)
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        choices = [*map(repr, get_args(kinds[0])), *([none] if can_be_none else [])]
        return f"one of {', '.join(choices)}"
    words = [repr(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    form = limits.form or " or ".join(_KINDS[kind] for kind in kinds if get_origin(kind) is not Literal)
    told = " or ".join([" ".join(filter(None, [form, limits.told_range])), *words])
    return f"{told}, or {none}" if can_be_none else told


_KINDS: dict[Any, str] = {
    bool: BOTH,
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    tuple[Path, ...]: "paths",
}


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        return _fits(value, inner) and all(each.has_in_range(value) for each in extras if isinstance(each, Accepts))
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if kinds[1:] == (...,):
            return all(_fits(each, kinds[0]) for each in value)
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str | os.PathLike) if hint is Path else isinstance(value, hint)


def _members(hint: Any) -> list[Any]:
    """The types of a union, or the type itself, each bare."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for part in get_args(hint) for member in _members(part)]
    return [hint]


def _number(limit: float) -> str:
    return f"{limit:g}" if limit != int(limit) else str(int(limit))


@cache
def _hints_of(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in fields(kind)}
