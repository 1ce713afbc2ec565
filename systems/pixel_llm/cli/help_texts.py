"""The words that stand under a field, in one piece: the help of its flag, and its line on the page of all settings.

`tyro` would find them too, but takes each further line of such words for a line that is meant, since it is indented,
and help then ends lines in the middle of a sentence.
"""

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["help_texts"]


def help_texts(options: type[Any]) -> dict[str, str]:
    """Field -> the words under it, for the fields that have some; nothing where the source is not at hand."""
    written = {name: text for base in reversed(options.__mro__) for name, text in _words_under_fields(base).items()}
    return {name: " ".join(text.split()) for name, text in written.items()}


def _words_under_fields(options: type) -> dict[str, str]:
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
