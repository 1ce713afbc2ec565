"""What `inspect` prints: tables that are read at 80 columns, on a terminal and in a file alike.

Captions and names are printed as they are but for what would steer a terminal, and never as markup.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.data.distributions import Bar, Spread
from systems.pixel_llm.data.inspection import Inspection
from systems.pixel_llm.data.inspection_checks import Check

__all__ = ["print_summary"]

SHOWN = 5
"""Lines of each list; the page and the JSON file have more."""
MAX_WIDTH = 110
BAR_BLOCKS = 24
STYLES = {"ok": "green", "warn": "yellow", "stop": "bold red"}


def print_summary(inspection: Inspection, checks: Sequence[Check], *, data: str, read_as: str) -> None:
    """Print what was found to stdout, the verdict last."""
    console = Console(highlight=False, emoji=False, markup=False)
    console.width = min(console.width, MAX_WIDTH)
    console.print(Text(escaped(data), style="bold"), soft_wrap=True)
    console.print(Text(f"read as: {escaped(read_as)}"), soft_wrap=True)
    if inspection.num_pictures:
        console.print(_figures(inspection))
    for table in _lists(inspection):
        console.print()
        console.print(table)
    console.print()
    console.print(_checks(checks))
    console.print(_verdict(checks))


def _figures(inspection: Inspection) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()

    def add(name: str, text: str) -> None:
        table.add_row(name, Text(text))

    kinds = ", ".join(f"{count:,} {kind}" for kind, count in inspection.kinds)
    add("pictures", f"{inspection.num_pictures:,}" + (f" ({kinds})" if kinds else ""))
    add("train / validation", f"{len(inspection.train_samples):,} / {len(inspection.validation_samples):,}")
    if (sizes := inspection.sizes) is not None:
        add("width", f"{_spread(sizes.width)} px")
        add("height", f"{_spread(sizes.height)} px")
        add("width : height", _spread(sizes.aspect_ratio, digits=2))
    if (captions := inspection.captions) is not None:
        add("captions", f"{captions.num_captions:,}, {captions.num_distinct:,} of them different")
        add("words", f"{_spread(captions.words)}   {_blocks(captions.word_bars)}")
        add("tokens", f"{_spread(captions.tokens)}   {_blocks(captions.token_bars)}")
        add("vocabulary", f"{captions.num_words:,} words, {captions.num_rare_words:,} of them seen once")
        add("most common words", ", ".join(word for word, _ in captions.most_common_words[:10]))
    return table


def _spread(spread: Spread, *, digits: int = 0) -> str:
    low, middle, high = (f"{each:,.{digits}f}" for each in (spread.minimum, spread.median, spread.maximum))
    return low if low == high else f"{low} .. {middle} .. {high}"


def _blocks(bars: Sequence[Bar]) -> str:
    """A histogram in one line of text."""
    if len(bars) < 2:
        return ""
    highest = max(bar.count for bar in bars)
    heights = "▁▂▃▄▅▆▇█"
    return "".join(heights[bar.count * 7 // highest] if bar.count else " " for bar in bars[:BAR_BLOCKS])


def _lists(inspection: Inspection) -> Iterable[Table]:
    captions = inspection.captions
    if captions is not None and (repeated := [each for each in captions.most_common_captions if each[1] > 1]):
        yield _list("most common captions", len(repeated), [(f"{count:,} x", text) for text, count in repeated])
    if inspection.bad:
        bad = [(_short(each.path), each.reason) for each in inspection.bad]
        yield _list("unreadable pictures, skipped in training", len(bad), bad)
    if captions is not None and captions.suspects:
        suspects = [(_short(each.path), f"{each.why}: {each.caption}") for each in captions.suspects]
        yield _list("captions that look wrong", len(suspects), suspects)
    if inspection.odd:
        odd = [(_short(each.path), "; ".join(each.what)) for each in inspection.odd]
        yield _list("odd pictures", len(odd), odd)
    for title, groups in (
        ("near-duplicates in training and validation", inspection.leaks),
        ("duplicates", [group for group in inspection.duplicates if not group.is_leak]),
    ):
        rows = [
            (_short(group.paths[0]), f"{'=' if group.is_exact else '~'} " + ", ".join(map(_short, group.paths[1:])))
            for group in groups
        ]
        if rows:
            yield _list(title, len(rows), rows)
    for title, names in (
        ("pictures without a caption", [str(path) for path in inspection.unpaired.pictures]),
        ("captions without a picture", inspection.unpaired.captions),
    ):
        if names:
            yield _list(title, len(names), [(name, "") for name in names])


def _list(title: str, count: int, rows: Sequence[tuple[str, str]]) -> Table:
    """The first of `rows`, each on one line."""
    table = Table(box=None, show_header=False, pad_edge=False, title=Text(f"{title} ({count:,})"), title_justify="left")
    table.title_style = "bold"
    # The name gets what it needs of a third of the line: without a width, long texts would leave it nothing.
    longest = max(len(name) for name, _ in rows[:SHOWN])
    table.add_column(no_wrap=True, overflow="ellipsis", width=min(longest, 28) if rows[0][1] else None)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, text in rows[:SHOWN]:
        table.add_row(Text(escaped(name)), Text(one_line(text)))
    if count > SHOWN:
        table.add_row(Text(f"and {count - SHOWN:,} more", style="dim"), "")
    return table


def _short(path: Path) -> str:
    return path.name


def _checks(checks: Sequence[Check]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("finding and advice", overflow="fold")
    for check in checks:
        text = Text(escaped(check.found))
        if check.advice:
            text.append(f"\n{check.advice}", style="dim")
        table.add_row(check.name, Text(check.status, style=STYLES[check.status]), text)
    return table


def _verdict(checks: Sequence[Check]) -> Text:
    stops = [check.name for check in checks if check.status == "stop"]
    warnings = sum(check.status == "warn" for check in checks)
    if stops:
        return Text(f"Training should not start: {', '.join(stops)}.", style=STYLES["stop"])
    if warnings:
        return Text(f"Training can start. {warnings} of {len(checks)} checks give advice.", style=STYLES["warn"])
    return Text("Training can start.", style=STYLES["ok"])
