"""SIGKILL at random moments, again and again: the run ends as one that was left alone, bit for bit, in every cell.

`python -m tests.kills --kills 200` does the same with more kills.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.kills.killing import Life, Line, Unbroken, draw_point, kill_runs, run_unbroken
from tests.kills.outcome import Outcome, differences
from tests.kills.training import CELLS, Cell, draw_pictures

KILLS_A_CELL = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures, where each unbroken run leaves its own."""
    folder = tmp_path_factory.mktemp("kills")
    draw_pictures(folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def unbroken(place: Path) -> Iterator[Callable[[Cell], Unbroken]]:
    """Call it with a cell: its run that was left alone, trained when it is first asked for."""
    runs: dict[Cell, Unbroken] = {}

    def run(cell: Cell) -> Unbroken:
        if cell not in runs:
            runs[cell] = run_unbroken(cell, place / "pictures", place / str(cell))
        return runs[cell]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_killed_run_ends_as_an_unbroken_one_with_any_number_of_workers(
    place: Path, unbroken: Callable[[Cell], Unbroken], cell: Cell
) -> None:
    expected = unbroken(replace(cell, num_workers=0)).outcome
    assert differences(unbroken(cell).outcome, expected) == []
    runs = list(
        kill_runs(
            cell, place / "pictures", place / f"{cell}-killed", unbroken=unbroken(cell), kills=KILLS_A_CELL,
            kills_a_run=KILLS_A_CELL, draw=Random(str(cell)),
        )
    )  # fmt: skip
    assert sum(len(run.places) for run in runs) == KILLS_A_CELL
    for run in runs:
        assert differences(run.outcome, expected) == [], f"killed {run.places}, see {run.folder}"


@pytest.mark.slow
def test_processes_of_their_own_do_the_same(place: Path, unbroken: Callable[[Cell], Unbroken]) -> None:
    """Not forked from one that has loaded torch: each an interpreter of its own, as a user starts it."""
    cell = Cell("bf16", 2, 3, "torch")
    started = run_unbroken(cell, place / "pictures", place / "spawned", method="spawn")
    runs = list(
        kill_runs(
            cell, place / "pictures", place / "spawned-killed", unbroken=started, kills=2, kills_a_run=2,
            draw=Random("spawn"), method="spawn",
        )
    )  # fmt: skip
    assert sum(len(run.places) for run in runs) == 2
    for outcome in (started.outcome, *(run.outcome for run in runs)):
        assert differences(outcome, unbroken(replace(cell, num_workers=0)).outcome) == []


@pytest.mark.slow
def test_what_is_compared_tells_runs_apart(unbroken: Callable[[Cell], Unbroken]) -> None:
    """All but the workers changes a run; both ends are reached; the averages, and a best that is not the last, too."""
    outcomes: dict[Cell, Outcome] = {cell: unbroken(cell).outcome for cell in CELLS if cell.num_workers == 0}
    for what in ("weights", "average", "optimizer", "best_weights"):
        assert len({getattr(each, what) for each in outcomes.values()}) == len(outcomes), what
    assert len({str(each.history) for each in outcomes.values()}) == len(outcomes)
    assert {each.end_reason for each in outcomes.values()} == {"epochs", "early_stopping"}
    assert any(each.best[0] != each.name for each in outcomes.values())
    assert all(each.average != each.weights for each in outcomes.values())


def test_the_moments_of_kills_lie_in_all_parts_of_what_is_left() -> None:
    keys = [
        ("start", 0), ("train", 1), ("train", 2), ("validation", 2), ("epoch", 2), ("train", 3), ("train", 4),
        ("validation", 4), ("epoch", 4), ("end", 4),
    ]  # fmt: skip
    life = Life(0, [Line(key, seconds=1.0 + number) for number, key in enumerate(keys)], 0.5, was_saving=False)
    draw = Random(0)
    points = [draw_point(life, step=0, draw=draw) for _ in range(400)]
    assert {point.after for point in points} == {None, *keys[1:-1]}
    assert any(point.waits_for_save for point in points)
    assert all(0 <= point.seconds <= (2.0 if point.after is None else 1.0) for point in points)
    resumed = {draw_point(life, step=2, draw=draw).after for _ in range(400)}
    assert resumed == {None, *keys[5:-1]}
    again = Random(0)
    assert [draw_point(life, step=0, draw=again) for _ in range(400)] == points
