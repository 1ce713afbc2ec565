"""Folders may stand anywhere on a command line, between flags too: `train photos --out run drawings`.

A parser that takes any number of folders takes those that stand together, and calls the others unknown options. Every
flag here has one word as its value or none, so which words are folders can be told without it.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

__all__ = ["folders_first"]


def folders_first(arguments: Sequence[str], command: type) -> list[str]:
    """The same words, those in front that are neither a flag of `command`, a dataclass of options, nor its value."""
    if "--" in arguments:  # whoever writes it has put the folders behind it
        return list(arguments)
    switches = {"--help", *(sign + name for name in _switches(command) for sign in ("--", "--no-"))}
    folders, others, is_value_next = [], [], False
    for word in arguments:
        is_value, is_value_next = is_value_next, False
        if is_value or (word.startswith("-") and word != "-"):  # alone, it is stdin among the folders
            others.append(word)
            is_value_next = not is_value and word.startswith("--") and "=" not in word
            is_value_next = is_value_next and word.replace("_", "-") not in switches
        else:
            folders.append(word)
    return folders + others


def _switches(options: type) -> list[str]:
    """The options of type bool, in the parts too: their flags have no value."""
    found: list[str] = []
    hints: dict[str, Any] = get_type_hints(options)
    for each in fields(options):
        if is_dataclass(hints[each.name]):
            found += _switches(hints[each.name])
        elif hints[each.name] is bool:
            found.append(each.name.replace("_", "-"))
    return found
