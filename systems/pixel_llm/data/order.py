"""Which sample comes when: a pure function of (seed, epoch), so that a position in an epoch is one number.

A picture can be shown more often than others, or less: with a weight of 2 it comes twice an epoch, with 0.25 in one
epoch of four, which ones being drawn anew for each picture. Every time a picture comes in one epoch it is another
*draw*, so that its caption and its crop are drawn anew too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.seeding import derive_seed

__all__ = ["EpochOrder", "checked_weights", "epoch_order", "mean_draws"]

MAX_WEIGHT = 1_000.0


class EpochOrder(NamedTuple):
    """The samples of one epoch, in order."""

    samples: NDArray[np.int64]
    """[count] rows of the data set."""
    draws: NDArray[np.int64]
    """[count], 0 where a sample comes for the first time in this epoch, else how often it came before."""


def epoch_order(
    num_samples: int, *, seed: int, epoch: int, shuffle: bool, weights: NDArray[np.float64] | None = None
) -> EpochOrder:
    """The order of `epoch`, counted from 0. `weights` [num_samples] says how often each comes in an epoch."""
    generator = np.random.Generator(np.random.PCG64(derive_seed("order", seed, epoch)))
    samples = np.arange(num_samples)
    draws = np.zeros(num_samples, np.int64)
    if weights is not None:
        times = np.floor(weights + generator.random(num_samples)).astype(np.int64)
        samples = np.repeat(samples, times)
        first_of_each = np.repeat(np.cumsum(times) - times, times)
        draws = np.arange(len(samples)) - first_of_each
    if shuffle:
        places = generator.permutation(len(samples))
        samples, draws = samples[places], draws[places]
    return EpochOrder(samples, draws)


def mean_draws(num_samples: int, weights: NDArray[np.float64] | None) -> int:
    """How many samples an epoch has, on average over epochs."""
    return num_samples if weights is None else max(1, math.floor(float(weights.sum()) + 0.5))


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
