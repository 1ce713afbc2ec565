"""Parts of a model by the names of its parameters: `encoder`, `decoder.token_embedding`, `encoder.blocks.[01]`.

A pattern takes the parameter of that name and all below that name. `*`, `?` and `[...]` stand for any characters, any
one, and one of those, dots included: `*.norm` takes the norm of every part. One that takes nothing is a slip, and an
error that says what there is.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from systems.pixel_llm.errors import ConfigError, nearest_name_hint

__all__ = ["named_parameters_of", "part_names"]


def named_parameters_of(model: nn.Module, pattern: str, *, setting: str) -> Mapping[str, nn.Parameter]:
    """Name -> parameter of those that `pattern` takes; where a parameter has several names, under its first.

    Raises:
        ConfigError: there is none; the message names `setting` and the parts there are.
    """
    found = {
        name: parameter
        for name, parameter in model.named_parameters()
        if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
    }
    if not found:
        known = part_names(model)
        hint = nearest_name_hint(pattern, known)
        if "Known names" not in hint:
            hint += f" The parts: {', '.join(known)}."
        raise ConfigError(f"{setting}: {pattern!r} takes no parameter of this model. {hint}")
    return found


def part_names(model: nn.Module) -> list[str]:
    """The parts of `model` and those right below them that have parameters, in the order of the model."""
    names: dict[str, None] = {}
    for name, _ in model.named_parameters():
        words = name.split(".")
        for depth in (1, 2):
            names.setdefault(".".join(words[:depth]))
    return list(names)
