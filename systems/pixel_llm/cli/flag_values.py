"""How the value of a flag is read where `tyro`'s own reading would puzzle a newcomer; given to it as a registry.

A flag that may be left out takes a value or `none`, and shows only the kind of value. A picture's size is one word,
`112` or `96x128`, and so are several numbers, `2,0.5`: more words would swallow the folder that follows.
"""

import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

__all__ = ["FLAG_VALUES"]

FLAG_VALUES = ConstructorRegistry()

NONE, AUTO = "none", "auto"
# Type -> what help calls its values, and what an error calls one.
KINDS: dict[type, tuple[str, str]] = {
    int: ("INT", "a whole number"),
    float: ("FLOAT", "a number"),
    Path: ("PATH", "a path"),
    str: ("TEXT", "text"),
}


@FLAG_VALUES.primitive_rule
def _value_or_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    kinds = [kind for kind in _members(info.type) if kind is not type(None)]
    if len(kinds) != 1 or kinds == _members(info.type) or kinds[0] not in KINDS:
        return None
    kind = kinds[0]
    metavar, spelled = KINDS[kind]

    def read(text: str) -> Any:
        return None if text.lower() == NONE else _number(kind, text, f"{spelled} or {NONE}")

    def is_instance(value: Any) -> bool:
        return value is None or isinstance(value, kind)

    return _one_word(metavar, read, is_instance, show=lambda value: NONE if value is None else str(value))


@FLAG_VALUES.primitive_rule
def _number_alone(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type not in (int, float):
        return None
    kind = int if info.type is int else float
    metavar, spelled = KINDS[kind]
    accepted = (int, float) if kind is float else kind
    return _one_word(
        metavar, lambda text: _number(kind, text, spelled), lambda value: isinstance(value, accepted), show=str
    )


@FLAG_VALUES.primitive_rule
def _number_or_auto(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if set(_members(info.type)) != {int, Literal["auto"]}:
        return None

    def read(text: str) -> int | str:
        return AUTO if text.lower() == AUTO else int(_number(int, text, f"a whole number or {AUTO}"))

    return _one_word("INT|auto", read, lambda value: value == AUTO or isinstance(value, int), show=str)


@FLAG_VALUES.primitive_rule
def _size(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if set(_members(info.type)) != {int, tuple[int, int]}:
        return None

    def read(text: str) -> int | tuple[int, int]:
        found = re.fullmatch(r"(\d+)(?:[xX,](\d+))?", text)
        if found is None:
            raise ValueError(f"expected a side such as 112, or HEIGHTxWIDTH such as 96x128, not {text!r}.")
        return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))

    def show(value: int | tuple[int, int]) -> str:
        return str(value) if isinstance(value, int) else "x".join(map(str, value))

    return _one_word("SIDE|HEIGHTxWIDTH", read, lambda value: isinstance(value, int | tuple), show=show)


@FLAG_VALUES.primitive_rule
def _numbers_or_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if set(_members(info.type)) != {tuple[float, ...], type(None)}:
        return None
    wanted = f"numbers with commas between them, such as 2,0.5, or {NONE}"

    def read(text: str) -> tuple[float, ...] | None:
        if text.lower() == NONE:
            return None
        try:
            return tuple(map(float, text.split(",")))
        except ValueError as error:
            raise ValueError(f"expected {wanted}, not {text!r}.") from error

    def show(value: tuple[float, ...] | None) -> str:
        return NONE if value is None else ",".join(f"{each:g}" for each in value)

    return _one_word("NUMBER,...", read, lambda value: value is None or isinstance(value, tuple), show=show)


def _members(kind: Any) -> list[Any]:
    return list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]


def _number(kind: type, text: str, wanted: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"expected {wanted}, not {text!r}.") from error


def _one_word(
    metavar: str, read: Callable[[str], Any], is_instance: Callable[[Any], bool], *, show: Callable[[Any], str]
) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=is_instance,
        str_from_instance=lambda value: [show(value)],
    )
