"""Nested Python state (of an optimizer, a schedule, a scaler) <-> a JSON tree and a dict of named tensors, exactly.

`encode_state` takes the structure apart, `decode_state` builds an equal one: types included, so a tuple comes back as a
tuple, an int key as an int key, infinity as infinity. What JSON has itself stays as it is, which keeps the file
readable; the rest is an object with one key that starts with "$":

    {"$tensor": name}   {"$tuple": [...]}   {"$float": "inf" | "-inf" | "nan"}   {"$dict": [[key, value], ...]}
    {"$counter": [[key, count], ...]}

A dict is written as `$dict` where a key is an int or starts with "$". No class is ever named in a file, so nothing that
a file says can run code.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from systems.pixel_llm.errors import CheckpointError

__all__ = ["decode_state", "encode_state"]


def encode_state(value: Any, *, where: str = "state") -> tuple[Any, dict[str, Tensor]]:
    """Take `value` apart into a tree for `json.dumps` and the tensors in it, named by their place.

    The tensors are not copied. Numbers of numpy are stored as Python numbers.

    Args:
        value: dicts with str or int keys, lists, tuples, Counters, tensors, numbers, strings, bools and None.
        where: what the value is, for names and messages.

    Raises:
        CheckpointError: there is something else in it; the message names the place.
    """
    tensors: dict[str, Tensor] = {}
    return _encode(value, where, tensors), tensors


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, Tensor):
        name = where
        while name in tensors:  # {"a/b": ..., "a": {"b": ...}}
            name += "+"
        tensors[name] = value.detach()
        return {"$tensor": name}
    if type(value) is list:
        return [_encode(item, f"{where}/{index}", tensors) for index, item in enumerate(value)]
    if type(value) is tuple:
        return {"$tuple": [_encode(item, f"{where}/{index}", tensors) for index, item in enumerate(value)]}
    if type(value) in (dict, Counter):
        return _encode_dict(value, where, tensors)
    return _encode_number(value, where)


def _encode_dict(value: dict[Any, Any], where: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    for key in value:
        if type(key) not in (str, int):
            raise CheckpointError(f"{where}: the key {key!r} cannot be saved. Use str or int keys.")
    items = [[key, _encode(item, f"{where}/{key}", tensors)] for key, item in value.items()]
    if type(value) is Counter:
        return {"$counter": items}
    if all(type(key) is str and not key.startswith("$") for key in value):
        return dict(items)
    return {"$dict": items}


def _encode_number(value: Any, where: str) -> Any:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and (math.isnan(value) or float(value) == value):
        number = float(value)
        return number if math.isfinite(number) else {"$float": repr(number)}
    raise CheckpointError(
        f"{where}: a {type(value).__name__} cannot be saved. Use tensors, numbers, strings, lists, tuples and dicts."
    )


def decode_state(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Build again what `encode_state` took apart.

    Raises:
        CheckpointError: the tree was not written by `encode_state`, or lacks a tensor.
    """
    if isinstance(tree, list):
        return [decode_state(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tags = [key for key in tree if key.startswith("$")]
    if not tags:
        return {key: decode_state(item, tensors) for key, item in tree.items()}
    try:
        return _decode_tagged(tags[0], tree, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The saved state has {str(tree)[:80]}, which this version cannot read. Choose another checkpoint."
        ) from error


def _decode_tagged(tag: str, tree: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    (content,) = tree.values()
    decoders: dict[str, Callable[[Any], Any]] = {
        "$tensor": lambda name: tensors[name],
        "$float": {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}.__getitem__,
        "$tuple": lambda items: tuple(decode_state(item, tensors) for item in items),
        "$dict": lambda items: {key: decode_state(item, tensors) for key, item in items},
        "$counter": lambda items: Counter({key: decode_state(item, tensors) for key, item in items}),
    }
    return decoders[tag](content)
