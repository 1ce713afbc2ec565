"""The saved state of an optimizer laid out anew where its groups have changed: what is frozen, what has its own rate.

A state is stored by position, which means nothing once the groups are others. Those of the default optimizer carry the
name of their part, and the parameters' names are stored with them; so the state of each parameter is found by its name,
and settings are those of the live groups. A parameter that was not trained before begins without a state, as in a new
run; the state of one that is no longer trained is dropped.
"""

import logging
from typing import Any

import torch

__all__ = ["laid_out_anew"]

logger = logging.getLogger(__name__)

Described = list[list[dict[str, Any]]]
"""Name and shape of each parameter of each group."""


def laid_out_anew(
    state: dict[str, Any], found: Described, *, optimizer: torch.optim.Optimizer, expected: Described
) -> tuple[dict[str, Any], Described]:
    """`state` and its description `found` as the groups of `optimizer`, described by `expected`, have it.

    Both are given back as they are where the layout is the same, or where a group, saved or live, has no name: then it
    is not ours to say which settings belong to which parameter.
    """
    names = _names(found), _names(expected)
    groups = *state["param_groups"], *optimizer.param_groups
    if names[0] == names[1] or not all("part" in group for group in groups):
        return state, found
    positions = {name: index for group, own in zip(state["param_groups"], names[0], strict=True)
                 for name, index in zip(own, group["params"], strict=True)}  # fmt: skip
    described = {each["name"]: each for group in found for each in group}
    if None in positions or any(name is None for own in names[1] for name in own):
        return state, found
    values, described_anew, groups_anew = {}, [], []
    num_placed, new = 0, []
    for live, own in zip(optimizer.param_groups, expected, strict=True):
        settings = {key: value for key, value in live.items() if key != "params"}
        groups_anew.append(settings | {"params": list(range(num_placed, num_placed + len(own)))})
        described_anew.append([described.get(each["name"], each) for each in own])
        for index, each in enumerate(own, start=num_placed):
            if each["name"] not in positions:
                new.append(each["name"])
            elif positions[each["name"]] in state["state"]:
                values[index] = state["state"][positions[each["name"]]]
        num_placed += len(own)
    if new:
        logger.info("%d parameters, first %s, were not trained before: they begin without momentum.", len(new), new[0])
    return {"state": values, "param_groups": groups_anew}, described_anew


def _names(described: Described) -> list[list[str | None]]:
    return [[each["name"] for each in group] for group in described]
