"""A process that dies before a call of its choice; for scripts that fork, so nothing heavy is imported."""

import itertools
import os
from collections.abc import Callable
from typing import Any

__all__ = ["die_before"]

CALLS = ("mkdir", "open", "fsync", "replace", "rename", "unlink", "rmdir", "link")


def die_before(number: int) -> None:
    """From here on, end this process with status 9 before the so-manyth call of `os` that changes the disk."""
    calls = itertools.count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
