"""The default optimizer: AdamW over groups of parameters, each with its peak learning rate and its decay.

AdamW (Loshchilov & Hutter 2019) with decay on matrices only, in torch's fused form: one kernel for all parameters of a
group, several times faster than the plain loop on a CPU. Parts of the model may have rates of their own; each group
keeps the name of its part, by which a resume finds it again (`group_layout.py`), and its peak as `initial_lr`, torch's
own key, of which the schedule takes a share.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.parts import named_parameters_of

__all__ = [
    "REST",
    "check_default_optimizer",
    "cut_optimizer_state",
    "default_groups",
    "default_optimizer",
    "learning_rates_of",
    "make_optimizer",
    "parameter_groups",
    "scale_learning_rate",
    "set_hyperparameters",
]

REST = ""
"""The name, as a part, of all parameters that no part with a rate of its own takes."""


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    learning_rate: float | None = None,
    learning_rates: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Two groups a part: matrices (two axes or more) with decay; biases, gains and scales without.

    First the two of all that is in no part, empty or not, then those of the parts that are not empty. Frozen parameters
    are in none.

    Args:
        model: whose parameters.
        weight_decay: of the matrices.
        learning_rate: of what is in no part; None leaves it to the optimizer.
        learning_rates: pattern (see `parts.py`) -> learning rate. A parameter that several patterns take belongs to the
            last of them.

    Raises:
        ConfigError: a pattern takes nothing, or only what is frozen.
    """
    part_of: dict[int, str] = {}
    for pattern in learning_rates or {}:
        taken = named_parameters_of(model, pattern, setting="learning_rates").values()
        if not any(parameter.requires_grad for parameter in taken):
            raise ConfigError(f"learning_rates: all that {pattern!r} takes is frozen. Leave one of the two out.")
        part_of |= {id(parameter): pattern for parameter in taken}
    groups: list[dict[str, Any]] = []
    for part, rate in {REST: learning_rate, **(learning_rates or {})}.items():
        own = [each for each in model.parameters() if each.requires_grad and part_of.get(id(each), REST) == part]
        for is_matrix in (True, False):
            chosen = [parameter for parameter in own if (parameter.dim() >= 2) == is_matrix]
            if chosen or part == REST:
                rates = {} if rate is None else {"lr": rate}
                decay = weight_decay if is_matrix else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "part": part, **rates})
    return groups


def make_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float, learning_rates: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`.

    Raises:
        ConfigError: a pattern of `learning_rates` takes nothing that is trained.
    """
    groups = parameter_groups(
        model, weight_decay=weight_decay, learning_rate=learning_rate, learning_rates=learning_rates
    )
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def default_groups(model: nn.Module, options: TrainingOptions) -> list[dict[str, Any]]:
    """The groups of the default optimizer as the options want them."""
    return parameter_groups(
        model,
        weight_decay=options.weight_decay,
        learning_rate=options.learning_rate,
        learning_rates=options.part_learning_rates,
    )


def default_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.AdamW:
    """The optimizer that the Trainer uses where none is given.

    Raises:
        ConfigError: a pattern of `learning_rates` takes nothing that is trained.
    """
    return make_optimizer(
        model,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        learning_rates=options.part_learning_rates,
    )


def check_default_optimizer(options: TrainingOptions, *, is_default: bool) -> None:
    """Raises ConfigError where the options have rates of parts, and the optimizer is the user's."""
    if options.learning_rates is not None and not is_default:
        raise ConfigError(
            "learning_rates are those of the default optimizer. Give your own one a group a part, each with its lr, or "
            "leave optimizer out."
        )


def set_hyperparameters(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> None:
    """Give each group of `optimizer` the peak rate, decay and name of the same of `groups` (of `parameter_groups`)."""
    for group, wanted in zip(optimizer.param_groups, groups, strict=True):
        group["lr"] = group["initial_lr"] = wanted["lr"]
        group["weight_decay"], group["part"] = wanted["weight_decay"], wanted["part"]


def scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to `factor` times its peak, kept in the group as `initial_lr` (torch's own key)."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor


def learning_rates_of(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Part -> learning rate as it is now; that of the first group, which is of all that is in no part, under `REST`.

    Further groups of an optimizer of the user's are called group_1, group_2, ...
    """
    rates: dict[str, float] = {}
    for place, group in enumerate(optimizer.param_groups):
        rates.setdefault(REST if place == 0 else group.get("part", f"group_{place}"), float(group["lr"]))
    return rates


def cut_optimizer_state(optimizer: torch.optim.Optimizer, parameter: Tensor, *, rows_before: int) -> None:
    """Cut the state kept for `parameter` to its present number of rows, after its first axis was shrunk in place.

    Needed because an optimizer does not notice: fused AdamW would read moments of the old shape.
    """
    for name, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows_before:
            optimizer.state[parameter][name] = value[: parameter.shape[0]].clone()
