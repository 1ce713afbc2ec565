"""The default optimizer and the learning-rate schedule.

AdamW (Loshchilov & Hutter 2019) with decay on matrices only, in torch's fused form: one kernel for all parameters,
several times faster than the plain loop on a CPU. The schedule is a pure function of the share of the run done, so it
needs no state and follows a budget in minutes as well as one in steps.
"""

import math

import torch
from torch import Tensor, nn

__all__ = ["cut_optimizer_state", "learning_rate_factor", "make_optimizer", "parameter_groups", "scale_learning_rate"]


def learning_rate_factor(progress: float, *, schedule: str, warmup_fraction: float) -> float:
    """What the peak learning rate is multiplied by when the share `progress` (0..1) of the run is done.

    Rises linearly over `warmup_fraction`, then stays at 1 ("constant") or falls to 0 on half a cosine ("cosine",
    Loshchilov & Hutter 2017, SGDR, without restarts).
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup_fraction:
        return progress / warmup_fraction
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup_fraction) / (1.0 - warmup_fraction)))


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices (two axes or more) with decay; biases, gains and scales without."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trainable if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.dim() < 2], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """The optimizer the Trainer uses where none is given."""
    groups = parameter_groups(model, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def scale_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to `factor` times its peak, kept in the group as `initial_lr` (torch's own key)."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor


def cut_optimizer_state(optimizer: torch.optim.Optimizer, parameter: Tensor, *, rows_before: int) -> None:
    """Cut the state kept for `parameter` to its present number of rows, after its first axis was shrunk in place.

    Needed because an optimizer does not notice: fused AdamW would read moments of the old shape.
    """
    for name, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows_before:
            optimizer.state[parameter][name] = value[: parameter.shape[0]].clone()
