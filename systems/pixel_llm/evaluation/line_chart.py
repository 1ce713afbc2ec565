"""Curves laid out for a page: lines, grid and ticks in units of a drawing, which a template turns into SVG.

A drawing is small, so a line of thousands of points is thinned to the least and the greatest value of each stretch,
which keeps every spike. The values themselves go along for whoever points at the chart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CHART_HEIGHT", "CHART_WIDTH", "Curve", "LineChart", "line_chart", "short_number"]

CHART_WIDTH, CHART_HEIGHT = 520.0, 190.0
MAX_POINTS = 300
NUM_TICKS = 5
WIDEST_LINEAR = 20.0
"""Values that differ by a greater factor are drawn on a logarithmic scale: a loss that falls near 0 shows nothing
otherwise."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart."""

    name: str
    points: Points
    """(x, value), x rising."""
    style: str = "first"
    """A class of the style sheet: first or second."""
    has_dots: bool = False


@dataclass(frozen=True, kw_only=True)
class DrawnCurve:
    """A line, laid out."""

    name: str
    style: str
    path: str
    """Of the SVG element of that name."""
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A chart, laid out in CHART_WIDTH x CHART_HEIGHT."""

    title: str
    note: str
    has_legend: bool
    """Whether the names of the curves say more than the title."""
    curves: tuple[DrawnCurve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, float, str], ...]
    """(x, y, what to say of this point)."""
    values: dict[str, object]
    """For the script that tells values where one points: `start` and `end` of x, and of each curve name and points."""


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    note: str = "",
    from_zero: bool = False,
    mark: tuple[float, float, str] | None = None,
) -> LineChart | None:
    """Lay out curves; None where none has a point.

    Args:
        title: shown above.
        curves: drawn in their order, the last on top. Those without points are left out.
        note: shown below.
        from_zero: the axis of values holds 0, at its lower end where no value is below.
        mark: x, value and what to say of this point.
    """
    thinned = [(curve, _thinned(curve.points)) for curve in curves if curve.points]
    if not thinned:
        return None
    xs = [x for _, points in thinned for x, _ in points]
    values = [value for _, points in thinned for _, value in points]
    start, end = min(xs), max(xs)
    if start == end:
        start, end = min(start, 0.0), max(end, 1.0)
    is_logarithmic = not from_zero and min(values) > 0 and max(values) > WIDEST_LINEAR * min(values)
    ticks = (
        _logarithmic_ticks(min(values), max(values))
        if is_logarithmic
        else _ticks(*((min(0.0, *values), max(0.0, *values)) if from_zero else (min(values), max(values))))
    )
    scale = math.log if is_logarithmic else float
    low, high = min(scale(min(values)), scale(ticks[0])), max(scale(max(values)), scale(ticks[-1]))

    def place_x(x: float) -> float:
        return round((x - start) / (end - start) * CHART_WIDTH, 1)

    def place_y(value: float) -> float:
        return round(CHART_HEIGHT * (1 - (scale(value) - low) / (high - low)), 1)

    return LineChart(
        title=title,
        note=note,
        has_legend=len(curves) > 1,
        curves=tuple(
            DrawnCurve(
                name=curve.name,
                style=curve.style,
                path="M" + "L".join(f"{place_x(x)} {place_y(value)}" for x, value in points),
                dots=tuple((place_x(x), place_y(value)) for x, value in points)
                if curve.has_dots or len(points) == 1
                else (),
            )
            for curve, points in thinned
        ),
        x_ticks=tuple((place_x(x), short_number(x)) for x in _ticks(start, end) if start <= x <= end),
        y_ticks=tuple((place_y(value), short_number(value)) for value in ticks),
        marks=() if mark is None else ((place_x(mark[0]), place_y(mark[1]), mark[2]),),
        values={
            "start": start,
            "end": end,
            "curves": [
                {"name": curve.name, "points": [[x, float(f"{value:.4g}")] for x, value in points]}
                for curve, points in thinned
            ],
        },
    )


def short_number(value: float) -> str:
    """A number as an axis has room for: 1.5k, 20k, 3M, 0.25, 4e-05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    if value and abs(value) < 1e-3:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:.4g}"


def _thinned(points: Points) -> list[tuple[float, float]]:
    """At most about MAX_POINTS of them: of each stretch the least and the greatest, in order, and the very last."""
    if len(points) <= MAX_POINTS:
        return list(points)
    stretch = math.ceil(2 * len(points) / MAX_POINTS)
    kept: list[tuple[float, float]] = []
    for first in range(0, len(points), stretch):
        part = points[first : first + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, about NUM_TICKS of them, the first not above `low`, the last not below `high`."""
    if low == high:
        low, high = (0.0, 1.0) if low == 0 else sorted((low - abs(low) / 2, low + abs(low) / 2))
    rough = (high - low) / (NUM_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.10g}") for place in range(first, last + 1)]


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that lie between, or only the powers where these would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 2 * NUM_TICKS:
            break
    return ticks[:: math.ceil(len(ticks) / (2 * NUM_TICKS))]
