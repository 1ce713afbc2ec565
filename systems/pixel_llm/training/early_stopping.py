"""When a run has stopped getting better: a pure function of its measurements, so that a resumed run decides alike."""

from collections.abc import Sequence
from typing import Literal

__all__ = ["is_out_of_patience"]


def is_out_of_patience(
    values: Sequence[float], *, mode: Literal["min", "max"], patience: int, min_delta: float = 0.0
) -> bool:
    """Whether none of the last `patience` measurements was better than the best before them by more than `min_delta`.

    Args:
        values: the metric at each validation, in order.
        mode: whether lower or higher is better.
        patience: measurements without progress that are borne.
        min_delta: progress smaller than this counts as none.
    """
    sign = -1.0 if mode == "min" else 1.0
    best, since_best = float("-inf"), 0
    for value in values:
        if sign * value > best + min_delta:
            best, since_best = sign * value, 0
        else:
            since_best += 1
    return since_best >= patience
