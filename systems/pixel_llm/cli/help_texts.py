"""The help text of every flag: the words under its field, in one piece, for `tyro` to break into lines by itself.

`tyro` takes each further line of such words for a line that is meant, since it is indented, and help then ends lines in
the middle of a sentence. It looks at a field's metadata first, so the joined words go there.
"""

import ast
import sys
from dataclasses import Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

__all__ = ["join_help_lines"]


def join_help_lines(options: type[Any]) -> None:
    """Give each field of `options`, and of the dataclasses that are its fields, the words under it as its help."""
    written = {name: text for base in reversed(options.__mro__) for name, text in _words_under_fields(base).items()}
    types = get_type_hints(options)
    for each in fields(options):
        if is_dataclass(kind := types[each.name]):
            join_help_lines(kind)  # type: ignore[arg-type]  # it is no instance
        elif each.name in written:
            _set_help(each, " ".join(written[each.name].split()))


def _set_help(of: Field[Any], text: str) -> None:
    of.metadata = MappingProxyType({**of.metadata, "help": text})


def _words_under_fields(options: type) -> dict[str, str]:
    """Field -> the string that stands right under it; nothing where the source is not at hand."""
    for node in _source_of(options.__module__).body:
        if isinstance(node, ast.ClassDef) and node.name == options.__name__:
            return {
                field.target.id: words.value.value
                for field, words in zip(node.body, node.body[1:], strict=False)
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(words, ast.Expr)
                and isinstance(words.value, ast.Constant)
                and isinstance(words.value.value, str)
            }
    return {}


@cache
def _source_of(module: str) -> ast.Module:
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return ast.parse(Path(file).read_text(encoding="utf-8")) if file is not None else ast.Module([], [])
    except (OSError, SyntaxError, UnicodeDecodeError):  # a package without its source: help is as tyro has it
        return ast.Module([], [])
