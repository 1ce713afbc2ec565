"""How far a score would move with other pictures of the same kind: pictures drawn anew, with replacement.

B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13, percentiles. A draw is a row of how
often each picture came; one matrix product makes the sums over the drawn pictures of all that a score is made of. The
same seed draws the same pictures for every score and every run.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["draws", "interval_of_sums", "percentile_interval"]

_ROWS = 128
"""Draws at a time: 5 MB for 5,000 pictures."""


def draws(num_pictures: int, *, num_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks [rows, N], `num_draws` rows in all, of how often each of N pictures is drawn in N draws.

    Raises:
        ValueError: `num_draws` is below 1.
    """
    if num_draws < 1:
        raise ValueError(f"Expected num_draws of at least 1; found {num_draws}.")
    generator = np.random.default_rng(seed)
    for first in range(0, num_draws, _ROWS):
        drawn = generator.integers(num_pictures, size=(min(_ROWS, num_draws - first), num_pictures))
        yield np.stack([np.bincount(row, minlength=num_pictures) for row in drawn]).astype(np.float64)


def percentile_interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the scores of all draws."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def interval_of_sums(
    contributions: NDArray[np.float64],
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    num_draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % interval of a score of sums over pictures: `score` makes [rows] of [rows, C], sums of [N, C] rows.

    Raises:
        ValueError: `num_draws` is below 1.
    """
    blocks = draws(len(contributions), num_draws=num_draws, seed=seed)
    return percentile_interval(np.concatenate([score(times @ contributions) for times in blocks]))
