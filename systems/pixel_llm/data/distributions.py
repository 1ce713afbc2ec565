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


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of at least one number; of an even count, the lower of the two in the middle."""
    ordered = sorted(values)
    return Spread(ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1])


def histogram(values: Sequence[float], *, max_bars: int = 24) -> tuple[Bar, ...]:
    """At least one number, counted in ranges of one round width, at most `max_bars` of them, empty ones included.

    Whole numbers are counted in ranges of a whole width.
    """
    low, high = min(values), max(values)
    widths = (factor * 10.0**power for power in range(-3, 13) for factor in (1, 2, 5))
    width = next(each for each in widths if (high - low) / each < max_bars - 1)
    if all(isinstance(value, int) for value in values):
        width = max(1, round(width))
    counts = Counter(int(value // width) for value in values)
    return tuple(
        Bar(round(place * width, 6), round((place + 1) * width, 6), counts[place])
        for place in range(int(low // width), int(high // width) + 1)
    )
