"""What `inspect` prints: tables that are read at 80 columns, on a terminal and in a file alike.

Captions and names are printed as they are but for what would steer a terminal, and never as markup.
"""

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.data.distributions import Bar, Spread
from systems.pixel_llm.data.duplicates import DuplicateGroup
from systems.pixel_llm.data.inspection import Inspection
from systems.pixel_llm.data.inspection_captions import CaptionsReport
from systems.pixel_llm.data.inspection_checks import Check

__all__ = ["print_summary"]

SHOWN = 5
"""Lines of each list; the page and the JSON file have more."""
MAX_WIDTH = 110
MAX_NAME = 28
BAR_BLOCKS = 24
STYLES = {"ok": "green", "warn": "yellow", "stop": "bold red"}


def print_summary(
    inspection: Inspection,
    checks: Sequence[Check],
    *,
    folders: Sequence[tuple[str, str]],
    num_draws: int | None = None,
) -> None:
    """Print what was found to stdout, the verdict last.

    Args:
        inspection: what was found.
        checks: what follows from it.
        folders: each data folder's name, and what there is to say of how it was read.
        num_draws: how many pictures come in an epoch of training, where it is known.
    """
    console = Console(highlight=False, emoji=False, markup=False)
    console.width = min(console.width, MAX_WIDTH)
    for data, read_as in folders:
        console.print(Text(escaped(data), style="bold"), soft_wrap=True)
        console.print(Text(escaped(read_as)), soft_wrap=True)
    if inspection.num_pictures:
        console.print(_figures(inspection, num_draws=num_draws))
    for title, rows in _lists(inspection):
        console.print()
        console.print(Text(title, style="bold"))
        console.print(_first_rows(rows))
        if len(rows) > SHOWN:
            console.print(Text(f"and {len(rows) - SHOWN:,} more", style="dim"))
    console.print()
    console.print(_checks(checks))
    console.print(_verdict(checks))


def _figures(inspection: Inspection, *, num_draws: int | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()

    def add(name: str, text: str) -> None:
        table.add_row(name, Text(text))

    kinds = ", ".join(f"{count:,} {kind}" for kind, count in inspection.kinds)
    add("pictures", f"{inspection.num_pictures:,}" + (f" ({kinds})" if kinds else ""))
    add("train / validation", f"{len(inspection.train_samples):,} / {len(inspection.validation_samples):,}")
    if num_draws not in (None, len(inspection.train_samples)):
        add("an epoch", f"{num_draws:,} pictures, by their weights")
    if (sizes := inspection.sizes) is not None:
        add("width", f"{_spread(sizes.width)} px")
        add("height", f"{_spread(sizes.height)} px")
        add("width : height", _spread(sizes.aspect_ratio, digits=2))
    if (captions := inspection.captions) is not None:
        add("captions", f"{captions.num_captions:,}, {captions.num_distinct:,} of them different")
        add("words", f"{_spread(captions.words)}   {_blocks(captions.word_bars)}")
        if isinstance(captions, CaptionsReport):
            add("tokens", f"{_spread(captions.tokens)}   {_blocks(captions.token_bars)}")
        add("vocabulary", f"{captions.num_words:,} words, {captions.num_rare_words:,} of them seen once")
        add("most common words", ", ".join(word for word, _ in captions.most_common_words[:10]))
    return table


def _spread(spread: Spread, *, digits: int = 0) -> str:
    low, middle, high = (f"{each:,.{digits}f}" for each in (spread.minimum, spread.median, spread.maximum))
    return low if low == high else f"{low} to {high}, median {middle}"


def _blocks(bars: Sequence[Bar]) -> str:
    """A histogram in one line of text."""
    if len(bars) < 2:
        return ""
    highest = max(bar.count for bar in bars)
    heights = "▁▂▃▄▅▆▇█"
    return "".join(heights[bar.count * 7 // highest] if bar.count else " " for bar in bars[:BAR_BLOCKS])


def _lists(inspection: Inspection) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    """The lists that are not empty, titled; each row a name and what there is to say of it, or a name alone."""
    captions = inspection.captions
    if captions is not None:
        repeated = [(f"{count:,} x", text) for text, count in captions.most_common_captions[:SHOWN] if count > 1]
        yield from _titled("Most common captions", repeated)
    bad = [(each.path.name, each.reason) for each in inspection.bad]
    yield from _counted("Unreadable pictures, skipped in training", bad)
    if captions is not None:
        suspects = [(each.path.name, f"{each.why}: {each.caption}") for each in captions.suspects]
        yield from _counted("Captions that look wrong", suspects)
    yield from _counted("Odd pictures", [(each.path.name, "; ".join(each.what)) for each in inspection.odd])
    leaks, others = inspection.leaks, [group for group in inspection.duplicates if not group.is_leak]
    others.sort(key=lambda group: (not group.is_exact, not group.copied_paths))
    yield from _counted("Near-duplicates, in training and in validation", [_group(each) for each in leaks])
    yield from _counted("Near-duplicates" + (", others" if leaks else ""), [_group(each) for each in others])
    pictures = [(str(path), "") for path in inspection.unpaired.pictures]
    yield from _counted("Pictures without a caption", pictures)
    yield from _counted("Captions without a picture", [(name, "") for name in inspection.unpaired.captions])


def _titled(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    if rows:
        yield title, rows


def _counted(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    yield from _titled(f"{title} ({len(rows):,})", rows)


def _group(group: DuplicateGroup) -> tuple[str, str]:
    copied = set(group.copied_paths)
    first, *others = (path.name for path in sorted(group.paths, key=lambda path: path not in copied))
    what = "copied as" if group.is_exact else f"{len(copied)} copies; looks like" if copied else "looks like"
    return first, f"{what} {', '.join(others)}"


def _first_rows(rows: Sequence[tuple[str, str]]) -> Table:
    """Each of the first rows on one line: the name as long as it needs, up to a third of it, the text cut."""
    shown = [(escaped(name), one_line(text)) for name, text in rows[:SHOWN]]
    has_text = any(text for _, text in shown)
    width = min(max(cell_len(name) for name, _ in shown), MAX_NAME)
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", width=width if has_text else None)
    if has_text:
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for name, text in shown:
        table.add_row(Text(name), *([Text(text)] if has_text else []))
    return table


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
        verb = "gives" if warnings == 1 else "give"
        return Text(f"Training can start. {warnings} of {len(checks)} checks {verb} advice.", style=STYLES["warn"])
    return Text("Training can start.", style=STYLES["ok"])
