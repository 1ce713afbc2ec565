"""Fair timing on a noisy machine: the sides take turns within every round, and what counts is the median of ratios."""

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["paired_seconds", "ratio_of_medians"]


def paired_seconds(
    sides: Mapping[str, Callable[[], object]], *, rounds: int, warmups: int = 2
) -> dict[str, list[float]]:
    """Seconds of each call: name -> one figure a round. Every side is called `warmups` times before."""
    for call in sides.values():
        for _ in range(warmups):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio_of_medians(slower: list[float], faster: list[float]) -> float:
    """How many times longer `slower` takes: the median over rounds of the ratio within each round."""
    return statistics.median(one / other for one, other in zip(slower, faster, strict=True))
