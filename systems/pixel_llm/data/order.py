"""Which sample comes when: a pure function of (seed, epoch), so that a position in an epoch is one number.

A picture can be shown more often than others, or less: with a weight of 2 it comes twice an epoch, with 0.25 in one
epoch of four, which ones being drawn anew each epoch. All epochs are as long as the weights' sum, rounded: budgets and
schedules count in epochs. Every time a picture comes in one epoch it is another *draw*, so that its caption and its
crop are drawn anew too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.options import MAX_WEIGHT
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.seeding import derive_seed

__all__ = ["EpochOrder", "checked_weights", "epoch_order", "mean_draws"]


class EpochOrder(NamedTuple):
    """The samples of one epoch, in order."""

    samples: NDArray[np.int64]
    """[count] rows of the data set."""
    draws: NDArray[np.int64]
    """[count], 0 where a sample comes for the first time in this epoch, else how often it came before."""


def epoch_order(
    num_samples: int, *, seed: int, epoch: int, shuffle: bool, weights: NDArray[np.float64] | None = None
) -> EpochOrder:
    """The order of `epoch`, counted from 0, of `mean_draws` samples.

    `weights` [num_samples] says how often each comes: its weight rounded up or down, on average over epochs the weight
    itself. Where the weights' sum is no whole number, the part of a sample by which an epoch is longer or shorter is
    shared by the weights that are no whole numbers.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed("order", seed, epoch)))
    samples = np.arange(num_samples)
    draws = np.zeros(num_samples, np.int64)
    if weights is not None:
        times = _times(weights, generator)
        samples = np.repeat(samples, times)
        first_of_each = np.repeat(np.cumsum(times) - times, times)
        draws = np.arange(len(samples)) - first_of_each
    if shuffle:
        places = generator.permutation(len(samples))
        samples, draws = samples[places], draws[places]
    return EpochOrder(samples, draws)


def mean_draws(num_samples: int, weights: NDArray[np.float64] | None) -> int:
    """How many samples each epoch has, whichever they are."""
    return num_samples if weights is None else int(np.floor(weights).sum()) + _num_rounded_up(weights)


def _times(weights: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """How often each comes in one epoch: its weight rounded up or down, a fixed number of them up."""
    times = np.floor(weights).astype(np.int64)
    fractions = weights - times
    rows = generator.permutation(np.flatnonzero(fractions))
    # The fractions laid end to end as stretches of a line, with a mark at every whole number from a random start: a
    # stretch shorter than 1 meets a mark as often as it is long, and the number of marks is the length, up or down.
    ends = np.floor(np.cumsum(fractions[rows]) + generator.random())
    is_up = np.diff(ends, prepend=0.0) > 0
    missing = _num_rounded_up(weights) - int(is_up.sum())
    others = np.flatnonzero(~is_up if missing > 0 else is_up)
    is_up[generator.permutation(others)[: abs(missing)]] = missing > 0
    times[rows[is_up]] += 1
    return times


def _num_rounded_up(weights: NDArray[np.float64]) -> int:
    """How many weights of an epoch are rounded up: the sum of their fractions, rounded; no epoch is empty."""
    whole = np.floor(weights)
    return max(math.floor(float((weights - whole).sum()) + 0.5), 0 if whole.any() else 1)


def checked_weights(weights: Sequence[float] | NDArray[np.float64], *, num_samples: int) -> NDArray[np.float64]:
    """Weights as an array [num_samples].

    Raises:
        ConfigError: they are not as many as the samples, one is out of range, or all are 0.
    """
    array = np.asarray(weights, np.float64)
    if array.shape != (num_samples,):
        raise ConfigError(f"There must be a weight for each of the {num_samples} samples, found {array.shape}.")
    if not (np.isfinite(array).all() and (array >= 0).all() and (array <= MAX_WEIGHT).all() and array.any()):
        raise ConfigError(
            f"Weights must be numbers from 0 to {MAX_WEIGHT:g}, not all of them 0: how often a sample comes in an "
            "epoch."
        )
    return array
