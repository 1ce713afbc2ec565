"""What `evaluate` prints: a table with the model among what it has to be compared with, then what to know about it.

The columns are read at 80 columns, and one number stands in each, so that a file of it can be taken apart too.
"""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.evaluation.result import EvaluationResult, PictureResult, ScoreRow
from systems.pixel_llm.evaluation.score import Difference, Score

__all__ = ["print_comparison", "print_evaluation", "score_line", "verdict"]

COLUMNS = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D")
ROWS = {"nearest": "nearest neighbour", "constant": "one caption for all"}
NAMES = {
    **ROWS,
    "human": "people",
    "copied_share": "share copied from training",
    "chrf": "chrF",
    "meteor": "METEOR",
    "spice": "SPICE",
    "clip_score": "CLIPScore",
    "ref_clip_score": "RefCLIPScore",
}
"""What is said of what the files call by a key."""
PRIMARY = "CIDEr-D"
"""The score by which a verdict is given: of these the one that agrees best with people."""
SIGNIFICANT = 0.05
SHOWN = 3
"""Captions shown of the best, and of the worst."""
MAX_WIDTH = 110


def print_evaluation(result: EvaluationResult) -> None:
    """Print the table, what kind of captions they are, a few of them, and what could not be computed."""
    console = _console()
    console.print(Text(_heading(result), style="bold"), soft_wrap=True)
    console.print(_table(result))
    console.print(Text(_diversity(result)), soft_wrap=True)
    others = [each for each in result.scores if each.name not in (*COLUMNS, "BLEU-2", "BLEU-3")]
    if others:
        more = (f"{NAMES.get(each.name, each.name)} {each.value:.3f} ({_interval(each).strip()})" for each in others)
        console.print(Text(", ".join(more)), soft_wrap=True)
    console.print()
    for name, row in _rows_told(result):
        told = row.label if row.caption is None else f'{row.label}: "{one_line(row.caption)}"'
        console.print(Text(f"{name}: {told}", style="dim"), soft_wrap=True)
    ranked = sorted(result.pictures, key=lambda each: each.cider_d, reverse=True)
    if len(ranked) > 2 * SHOWN:
        _print_pictures(console, "best by CIDEr-D", ranked[:SHOWN])
        _print_pictures(console, "worst by CIDEr-D", ranked[-SHOWN:])
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in result.not_computed.items():
        names_by_reason.setdefault(reason, []).append(NAMES.get(name, name))
    for reason, names in names_by_reason.items():
        console.print(Text(f"not computed: {', '.join(names)}: {escaped(reason)}", style="dim"), soft_wrap=True)
    for caveat in result.caveats:
        console.print(Text(f"note: {escaped(caveat)}", style="yellow"), soft_wrap=True)


def score_line(result: EvaluationResult) -> str:
    """The scores in a line, for the end of a run."""
    by_name = {each.name: each for each in result.scores}
    interval = by_name[PRIMARY].interval
    within = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return (
        f"{PRIMARY}: {by_name[PRIMARY].value:.3f}{within}, BLEU-4: {by_name['BLEU-4'].value:.3f} "
        f"({len(result.pictures):,} validation pictures)"
    )


def print_comparison(differences: Sequence[Difference], *, one: str, other: str, num_pictures: int) -> None:
    """Print how much higher `one` scores than `other`, with a verdict in words."""
    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=None)
    for name in ("difference", "value", "95 % interval", "p"):
        table.add_column(name, justify="left" if name == "difference" else "right", no_wrap=True)
    for each in differences:
        low, high = each.interval
        table.add_row(each.name, f"{each.value:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{each.p_value:.3f}")
    console.print()
    console.print(Text(f"{escaped(one)} less {escaped(other)}, on the same {num_pictures:,} pictures"), soft_wrap=True)
    console.print(table)
    console.print(Text(verdict(differences, one=one, other=other, num_pictures=num_pictures)), soft_wrap=True)


def verdict(differences: Sequence[Difference], *, one: str, other: str, num_pictures: int) -> str:
    """Whether one of the two is better by CIDEr-D, in a sentence."""
    difference = next(each for each in differences if each.name == PRIMARY)
    told = f"{PRIMARY} {difference.value:+.3f}, p = {difference.p_value:.3f}"
    if difference.p_value >= SIGNIFICANT:
        return f"No difference that {num_pictures:,} pictures can show ({told})."
    better, worse = (one, other) if difference.value > 0 else (other, one)
    return f"{escaped(better)} is better than {escaped(worse)} ({told})."


def _console() -> Console:
    console = Console(highlight=False, emoji=False, markup=False)
    console.width = min(console.width, MAX_WIDTH)
    return console


def _heading(result: EvaluationResult) -> str:
    name = Path(result.checkpoint).name
    at = "" if Path(result.run).name == name else f" at {escaped(name)}"
    beams = result.generation.get("num_beams", 1)
    how = "drawn" if result.generation.get("do_sample") else "greedy" if beams == 1 else f"{beams} beams"
    return f"{escaped(result.run)}{at}, {how}, on {escaped(', '.join(result.data))} ({result.split})"


def _table(result: EvaluationResult) -> Table:
    num_references = [len(each.references) for each in result.pictures]
    fewest, most = min(num_references), max(num_references)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"{len(result.pictures):,} pictures", no_wrap=True)
    table.add_column("refs", justify="right", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    _add_row(table, "model", result.scores, (fewest, most), with_interval=True)
    for key in ROWS:
        if key in result.baselines:
            _add_row(table, ROWS[key], result.baselines[key].scores, (fewest, most))
    if result.human is not None:
        table.add_section()
        _add_row(table, "model, same refs", result.human.model.scores, (fewest - 1, most - 1))
        _add_row(table, "people", result.human.human.scores, (fewest - 1, most - 1))
    return table


def _rows_told(result: EvaluationResult) -> list[tuple[str, ScoreRow]]:
    """The rows that need words, by their names in the table."""
    rows = [(name, result.baselines[key]) for key, name in ROWS.items() if key in result.baselines]
    return rows if result.human is None else [*rows, ("people", result.human.human)]


def _add_row(
    table: Table, name: str, scores: tuple[Score, ...], references: tuple[int, int], *, with_interval: bool = False
) -> None:
    by_name = {each.name: each for each in scores}
    fewest, most = references
    table.add_row(
        name,
        str(fewest) if fewest == most else f"{fewest}-{most}",
        *(f"{by_name[column].value:.3f}" for column in COLUMNS),
        _interval(by_name[PRIMARY]).strip() if with_interval else "",
        style="bold" if with_interval else "",
    )


def _interval(score: Score) -> str:
    return "" if score.interval is None else f" {score.interval[0]:.3f} to {score.interval[1]:.3f}"


def _diversity(result: EvaluationResult) -> str:
    figures = result.diversity
    parts = [
        f"{figures.distinct_captions:.0%} of the captions differ",
        f"{figures.mean_length:.1f} words a caption",
        f"{figures.vocabulary:,} different words",
    ]
    if figures.copied_share is not None:
        parts.append(f"{figures.copied_share:.0%} are training captions word for word")
    return ", ".join(parts)


def _print_pictures(console: Console, title: str, pictures: Sequence[PictureResult]) -> None:
    console.print()
    console.print(Text(title, style="dim"))
    for each in pictures:
        said = one_line(each.caption) or "(nothing)"
        console.print(Text(f"{each.cider_d:6.3f}  {said}"), no_wrap=True, overflow="ellipsis")
        name = escaped(Path(each.image).name)
        line = Text(f"        {name}: {one_line(each.references[0])}", style="dim")
        console.print(line, no_wrap=True, overflow="ellipsis")
