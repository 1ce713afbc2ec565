"""`epoch_order` with weights as a sampler of torch, for a plain DataLoader.

Like torch's own, it draws each epoch from the global generator, which whoever wants epochs again has seeded.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from systems.pixel_llm.data.order import epoch_order, mean_draws

__all__ = ["WeightedSampler"]


class WeightedSampler(Sampler[int]):
    """Each sample as often in an epoch as its weight says."""

    def __init__(self, weights: NDArray[np.float64], *, shuffle: bool) -> None:
        self._weights, self._shuffle = weights, shuffle

    def __len__(self) -> int:
        return mean_draws(len(self._weights), self._weights)

    def __iter__(self) -> Iterator[int]:
        seed = int(torch.randint(2**63 - 1, ()).item())
        order = epoch_order(len(self._weights), seed=seed, epoch=0, shuffle=self._shuffle, weights=self._weights)
        return iter(order.samples.tolist())
