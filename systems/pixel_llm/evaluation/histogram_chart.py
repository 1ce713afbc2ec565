"""A histogram laid out for a page: bars, ticks and marks in units of a drawing, which a template turns into SVG.

A second distribution over the same ranges may be laid over the first; both are then drawn as shares of their own total,
since how many there are of each says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from systems.pixel_llm.data.distributions import Bar

__all__ = ["HISTOGRAM_HEIGHT", "HISTOGRAM_WIDTH", "ChartBar", "HistogramChart", "histogram_chart"]

HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 520.0, 150.0
BAR_GAP = 2.0
MAX_TICKS = 6
LEAST_BARS = 8
"""A single bar would fill the whole width and say nothing of where it stands."""


@dataclass(frozen=True, kw_only=True)
class ChartBar:
    """One bar, and what is said of it."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, kw_only=True)
class HistogramChart:
    """A histogram, laid out in HISTOGRAM_WIDTH x HISTOGRAM_HEIGHT."""

    title: str
    note: str
    bars: tuple[ChartBar, ...]
    over: tuple[ChartBar, ...]
    """Bars of a second distribution, narrower, in front of the first."""
    names: tuple[str, ...]
    """Of both distributions; empty where there is one."""
    ticks: tuple[tuple[float, str], ...]
    highest: str
    marks: tuple[tuple[float, str], ...]


def histogram_chart(
    title: str,
    bars: Sequence[Bar],
    *,
    note: str = "",
    mark: tuple[float, str] | None = None,
    over: Sequence[Bar] = (),
    names: tuple[str, str] | tuple[()] = (),
) -> HistogramChart:
    """Lay out at least one bar.

    Args:
        title: shown above.
        bars: one after the other, of one width.
        note: shown below.
        mark: a value to mark and what to write there.
        over: a second distribution, in ranges of the same width.
        names: of the first and the second distribution.
    """
    known = {bar.start for bar in bars}
    empty = (Bar(bar.start, bar.end, 0) for bar in over if bar.start not in known)
    bars = _padded(sorted((*bars, *empty), key=lambda bar: bar.start))
    start, end = bars[0].start, bars[-1].end
    totals = [sum(bar.count for bar in each) if over else 1 for each in (bars, over)]
    highest = max(bar.count / total for each, total in zip((bars, over), totals, strict=True) for bar in each)
    scale = HISTOGRAM_WIDTH / (end - start)

    def place(value: float) -> float:
        return round((value - start) * scale, 2)

    step = -(-len(bars) // MAX_TICKS)
    is_counted = all(bar.end - bar.start == 1 for bar in bars)  # one bar a whole number: it stands for that number
    middle = scale / 2 if is_counted else 0.0

    def drawn(each: Sequence[Bar], total: int, *, name: str, inset: float) -> tuple[ChartBar, ...]:
        return tuple(
            ChartBar(
                x=round(place(bar.start) + inset * scale * (bar.end - bar.start), 2),
                # The least bar is still seen.
                y=round(HISTOGRAM_HEIGHT - (height := max(2.0, HISTOGRAM_HEIGHT * bar.count / total / highest)), 2),
                width=round(max(1.0, (bar.end - bar.start) * scale * (1 - 2 * inset) - BAR_GAP), 2),
                height=round(height, 2),
                label=f"{bar.start:g}{'' if is_counted else f' to {bar.end:g}'}: "
                + (f"{bar.count / total:.1%} of {name}" if over else f"{bar.count:,}"),
            )
            for bar in each
            if bar.count
        )

    return HistogramChart(
        title=title,
        note=note,
        bars=drawn(bars, totals[0], name=names[0] if names else "", inset=0),
        over=drawn(over, totals[1], name=names[1] if names else "", inset=0.2),
        names=tuple(names),
        ticks=tuple((place(bar.start) + middle, f"{bar.start:g}") for bar in bars[::step]),
        highest=f"{highest:.0%}" if over else f"{highest:,.0f}",
        marks=() if mark is None or not start < mark[0] < end else ((place(mark[0]), mark[1]),),
    )


def _padded(bars: Sequence[Bar]) -> list[Bar]:
    """The bars with empty ones around them, up to LEAST_BARS; none below 0."""
    padded, width = list(bars), bars[0].end - bars[0].start
    while len(padded) < LEAST_BARS:
        last = padded[-1]
        padded.append(Bar(last.end, round(last.end + width, 6), 0))
        first = padded[0]
        if len(padded) < LEAST_BARS and first.start >= width:
            padded.insert(0, Bar(round(first.start - width, 6), first.start, 0))
    return padded
