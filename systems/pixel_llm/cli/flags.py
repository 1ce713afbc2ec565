"""A dataclass of options -> the flags of a command line, and their values -> the dataclass; `tyro` does the parsing.

Each field is a flag. Its help is the words under it, with the range that its type names, and what a record objects to
is told in flags: "--learning-rate must be a number above 0", where Python is told of `learning_rate`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import StructConstructorSpec, StructFieldSpec, StructTypeInfo

from systems.pixel_llm.cli.flag_values import FLAG_VALUES, NONE
from systems.pixel_llm.cli.help_texts import help_texts
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.settings import Accepts, accepted

__all__ = ["in_flags", "parsed", "setting_types", "switches"]

Options = TypeVar("Options")


def parsed(options: type[Options], arguments: Sequence[str], **details: Any) -> Options:
    """A command line as `options`; `details` are arguments of `tyro.cli`. A value that cannot be read, `--help` and an
    unknown flag end the process.

    Raises:
        ConfigError: a value is out of range, or two clash; the message names the flags.
    """
    _check_switches(arguments, options)
    try:
        found: Options = tyro.cli(options, args=arguments, registry=FLAG_VALUES, **details)
    except _RefusedError as refused:
        raise ConfigError(str(refused)) from refused.__cause__
    return found


def in_flags(message: str, names: Iterable[str]) -> str:
    """What is said of the fields `names`, as whoever types flags knows them.

    A name of several words is a field wherever it stands, a single word only at the beginning and before `=`.
    """
    for name in names:
        flag, word = f"--{name.replace('_', '-')}", rf"(?<![\w/.-]){name}(?!\w)"
        message = re.sub(rf"{word}=True\b", flag, message)
        message = re.sub(rf"{word}=False\b", f"no {flag}", message)
        message = re.sub(word if "_" in name else rf"{word}(?==)|^{name}(?=:? )", flag, message)
    return re.sub(r"\bNone\b", NONE, message)


class _RefusedError(Exception):
    """What a record objects to. `tyro` puts a ValueError into a frame with the name of a part of ours that no reader
    knows; of this it knows nothing.
    """


@FLAG_VALUES.struct_rule
def _record(info: StructTypeInfo) -> StructConstructorSpec | None:
    kind = info.type
    if not is_dataclass(kind):
        return None
    hints, bare, helps = get_type_hints(kind, include_extras=True), get_type_hints(kind), help_texts(kind)

    def make(**values: Any) -> Any:
        try:
            return kind(**values)
        except ConfigError as error:
            raise _RefusedError(in_flags(str(error), hints)) from error

    return StructConstructorSpec(
        instantiate=make,
        fields=tuple(
            StructFieldSpec(
                name=each.name,
                type=_without_ranges(hints[each.name], bare[each.name]),
                default=_default(each, info.default),
                helptext=_help(helps.get(each.name), hints[each.name]),
            )
            for each in fields(kind)
        ),
    )


def _without_ranges(hint: Any, bare: Any) -> Any:
    """The bare type with what is for `tyro` beside it."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    extras = tuple(each for each in extras if not isinstance(each, Accepts))
    return Annotated[(bare, *extras)] if extras else bare


def _default(field: Field[Any], of_record: Any) -> Any:
    if is_dataclass(of_record):
        return getattr(of_record, field.name)
    if field.default is not MISSING:
        return field.default
    return tyro.MISSING if field.default_factory is MISSING else field.default_factory()


def _help(words: str | None, hint: Any) -> str | None:
    told_range = accepted(hint).told_range
    return f"{words} ({told_range})" if words and told_range else words


# --- names ------------------------------------------------------------------------------------------------------------


def setting_types(options: type) -> dict[str, Any]:
    """Field -> bare type, of the parts too."""
    found: dict[str, Any] = {}
    hints: dict[str, Any] = get_type_hints(options)
    for each in fields(options):
        hint = hints[each.name]
        found |= setting_types(hint) if is_dataclass(hint) else {each.name: hint}  # type: ignore[arg-type]
    return found


def switches(options: type) -> list[str]:
    """The flags that have no value: those of type bool, without the dashes in front."""
    return [name.replace("_", "-") for name, hint in setting_types(options).items() if hint is bool]


def _check_switches(arguments: Sequence[str], options: type) -> None:
    for word in arguments:
        flag, equals, value = word.partition("=")
        if equals and flag.startswith("--") and flag[2:].replace("_", "-") in switches(options):
            raise ConfigError(f"{flag} is given or left out, and takes no value: not {value!r}.")
