"""How numbers are spread: least, middle and greatest, and how many lie in which range."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Spread", "histogram", "spread_of"]


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the greatest of some numbers."""

    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Bar:
    """How many numbers lie in a range, start <= number < end: one bar of a histogram."""

    start: float
    end: float
    count: int


_ROUNDING = 1e-9
"""0.15 / 0.05 is a little less than 3."""


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of at least one number; of an even count, the lower of the two in the middle."""
    ordered = sorted(values)
    return Spread(ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1])


def histogram(values: Sequence[float], *, least_width: float, max_bars: int = 24) -> tuple[Bar, ...]:
    """At least one number, none below 0, counted in ranges of one round width, empty ones included.

    There are at most `max_bars` of them, each as wide as `least_width` times 1, 2, 5, 10 and so on.
    """
    low, high = min(values), max(values)
    widths = (least_width * factor * 10**power for power in range(16) for factor in (1, 2, 5))
    width = next(each for each in widths if (high - low) / each < max_bars - 1)
    counts = Counter(int(value / width + _ROUNDING) for value in values)
    return tuple(
        Bar(round(place * width, 6), round((place + 1) * width, 6), counts[place])
        for place in range(int(low / width + _ROUNDING), int(high / width + _ROUNDING) + 1)
    )
