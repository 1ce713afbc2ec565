"""Whether the tensors of a file fit a model: each that does not, with what was expected and what was found.

Layer 1, no torch: a model is the names, shapes and dtypes of its tensors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from systems.pixel_llm.tensor_file import TensorEntry

__all__ = ["ExpectedTensor", "misfits", "told_misfits"]

_NUM_TOLD = 8


@dataclass(frozen=True)
class ExpectedTensor:
    """A tensor that a model has."""

    shape: tuple[int, ...]
    is_floating: bool


def misfits(
    found: Mapping[str, TensorEntry], expected: Mapping[str, ExpectedTensor], *, ignored: Collection[str] = ()
) -> dict[str, str]:
    """Name -> "expected [3, 4], found [4, 4]" of each tensor that is not the same on both sides, but for `ignored`."""
    wrong = {}
    for name in [*expected, *(name for name in found if name not in expected)]:
        if name in ignored:
            continue
        if name not in found:
            wrong[name] = f"expected {list(expected[name].shape)}, found none"
        elif name not in expected:
            wrong[name] = f"expected none, found {list(found[name].shape)}"
        elif found[name].shape != expected[name].shape:
            wrong[name] = f"expected {list(expected[name].shape)}, found {list(found[name].shape)}"
        elif expected[name].is_floating != ("F" in found[name].dtype):
            kind = "floating-point numbers" if expected[name].is_floating else "whole numbers"
            wrong[name] = f"expected {kind}, found {found[name].dtype}"
    return wrong


def told_misfits(wrong: Mapping[str, str]) -> str:
    """The first of them in a sentence, and how many more there are."""
    told = [f"{name!r} ({reason})" for name, reason in wrong.items()]
    if len(told) <= _NUM_TOLD:
        return "; ".join(told)
    return f"{'; '.join(told[:_NUM_TOLD])}; and {len(told) - _NUM_TOLD} more"
