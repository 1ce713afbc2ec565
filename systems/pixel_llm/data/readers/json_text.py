"""JSON text -> values, with errors that name the file, the line and the cure; a key given twice is one of them."""

import json
import os
from pathlib import Path
from typing import Any

from systems.pixel_llm.data.folder import quoted, shown
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES, read_text
from systems.pixel_llm.errors import DatasetError

__all__ = ["load_json", "parse_json"]


def load_json(path: Path, *, expected: str) -> Any:
    """The content of a JSON file. `expected` says in messages what it must hold.

    Raises:
        DatasetError: it cannot be read, or is not JSON.
    """
    return parse_json(
        read_text(path, max_bytes=MAX_MANIFEST_BYTES, what="manifest"), path=path, expected=expected, line=None
    )


def parse_json(
    text: str, *, path: str | os.PathLike[str], expected: str, line: int | None, what: str = "manifest"
) -> Any:
    """The value in `text`, which is the file `path` or one line of it. `what` names the file in messages.

    Raises:
        DatasetError: it is not JSON, or an object has a key twice.
    """
    place = f"The {what} {shown(path)}" + ("" if line is None else f", line {line},")
    try:
        return _DECODER.decode(text)
    except _KeyGivenTwice as error:
        raise DatasetError(
            f"{place} has the key {quoted(error.args[0])} twice. Give several captions of one picture as a list."
        ) from error
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if line is not None else f"line {error.lineno}, column {error.colno}"
        raise DatasetError(f"{place} is not valid JSON: {error.msg} at {at}. Correct it there.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place} cannot be read as JSON: {error}. It must hold {expected}.") from error


class _KeyGivenTwice(Exception):
    """The key is the argument."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        raise _KeyGivenTwice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)
