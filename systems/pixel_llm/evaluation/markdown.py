r"""Text that may hold anything, made fit for Markdown and for a YAML header: it is shown as it is and does nothing.

A caption, a folder's name or a setting comes from anybody's data. `one_line` makes one line of it, without control
characters; `escaped` puts a backslash before what Markdown or HTML would take as a sign (CommonMark 0.31, section 2.4);
`code` makes a code span; `yaml_header` writes a header in which every text is a double-quoted scalar, which JSON's
strings are too, once they hold printable characters only (YAML 1.2, section 5.1 and 7.3.1).
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

__all__ = ["Verbatim", "code", "escaped", "one_line", "yaml_header"]

# An underscore within a word is none; a link needs neither brackets nor a scheme.
_SIGNS = re.compile(r"[\\`*{}\[\]<>|~$&#@!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.")
# Control, surrogate, unassigned (U+FFFF) characters; what turns the direction of the text around it; and the mark of a
# file's byte order, which YAML takes as one.
_UNFIT_CATEGORIES = frozenset({"Cc", "Cs", "Cn"})
_UNFIT = frozenset("\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
Value = str | int | float | bool


class Verbatim(str):
    """Markdown that stands as it is."""


def one_line(text: str) -> str:
    """`text` with any white space as single spaces, and U+FFFD in the place of characters that are no text."""
    words = " ".join(text.split())
    return "".join(
        "\ufffd" if each in _UNFIT or unicodedata.category(each) in _UNFIT_CATEGORIES else each for each in words
    )


def escaped(text: str) -> Verbatim:
    """`text` as one line of Markdown that shows it, within a paragraph or a cell of a table."""
    return Verbatim(_SIGNS.sub(r"\\\g<0>", one_line(text)))


def code(text: str) -> Verbatim:
    """`text` as a code span, outside of tables; a backtick in it becomes an apostrophe."""
    return Verbatim(f"`{one_line(text).replace('`', chr(39))}`")


def yaml_header(fields: Mapping[str, Any]) -> Verbatim:
    """A YAML block between two lines `---`: mappings, sequences, texts and numbers, to any depth.

    Raises:
        ValueError: a number is not finite.
    """
    return Verbatim("\n".join(["---", *_mapping_lines(fields), "---", ""]))


def _mapping_lines(fields: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            lines += [f"{name}:", *(f"  {line}" for line in _mapping_lines(value))]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            lines += [f"{name}:", *_sequence_lines(value)]
        else:
            lines.append(f"{name}: {_scalar(value)}")
    return lines


def _sequence_lines(values: Sequence[Any]) -> list[str]:
    lines = []
    for value in values:
        inner = _mapping_lines(value) if isinstance(value, Mapping) else [_scalar(value)]
        lines += [f"- {inner[0]}", *(f"  {line}" for line in inner[1:])]
    return lines


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(one_line(value), ensure_ascii=False)
    if isinstance(value, float) and math.isfinite(value):
        return f"{Decimal(repr(value)):f}"  # readers of YAML 1.1 take 1e-05 for a text
    return json.dumps(value, allow_nan=False)
