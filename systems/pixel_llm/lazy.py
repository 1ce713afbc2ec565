"""Public names of a package that load their module on first use (PEP 562), so that importing a package costs nothing.

Layer 0: standard library only.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names live in `modules`: name -> module's full name.

    A package's `__init__.py` also imports the same names under `TYPE_CHECKING`, which is what editors and type checkers
    read.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    def __dir__() -> list[str]:
        return sorted(modules)

    return __getattr__, __dir__
