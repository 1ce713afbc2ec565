"""Kill trainings so many times in all, cell after cell, and say in how many cells each resumed run ended as it should.

The exit status is 1 where anything differed; the folders of such runs are kept.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

# As in the tests, and before anything loads torch: one thread a process, so that the fork server starts none.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.kills.killing import Unbroken, kill_runs, run_unbroken
from tests.kills.outcome import differences
from tests.kills.training import CELLS, Cell, draw_pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=2 * len(CELLS), help="in all; default two a cell")
    parser.add_argument("--kills-a-run", type=int, default=3, help="before a run is left to end; default 3")
    parser.add_argument("--seed", type=int, default=0, help="the moments follow from it, as far as machines allow")
    parser.add_argument("--keep", type=Path, default=Path("runs/kills"), help="for the folders of runs that differ")
    options = parser.parse_args(arguments)
    if options.kills < 1 or options.kills_a_run < 1:
        parser.error("--kills and --kills-a-run must be at least 1")
    print(f"{'cell':<28} {'kills':>5} {'runs':>5} {'equal':>5}  where the kills hit", flush=True)
    num_kills = num_equal_kills = num_differing = 0
    unbroken: dict[Cell, Unbroken] = {}
    with tempfile.TemporaryDirectory(prefix="pixel-llm-kills-") as place:
        draw_pictures(Path(place) / "pictures")
        for number, cell in enumerate(CELLS):
            kills = options.kills * (number + 1) // len(CELLS) - options.kills * number // len(CELLS)
            folder = Path(place) / str(cell)
            alone = unbroken[cell] = run_unbroken(cell, Path(place) / "pictures", folder)
            # Of two cells that differ in workers alone, the first is the measure of both.
            expected = unbroken[replace(cell, num_workers=0)].outcome
            num_differing += report(f"{cell}, unbroken", differences(alone.outcome, expected), folder, options.keep)
            runs = num_equal = 0
            places: Counter[str] = Counter()
            for run in kill_runs(
                cell, Path(place) / "pictures", folder.with_name(f"{cell}-killed"), unbroken=alone, kills=kills,
                kills_a_run=options.kills_a_run, draw=Random(f"{options.seed} {cell}"),
            ):  # fmt: skip
                found = differences(run.outcome, expected)
                num_differing += report(f"{cell}, killed {run.places}", found, run.folder, options.keep)
                num_equal_kills += 0 if found else len(run.places)
                runs, num_equal = runs + 1, num_equal + (not found)
                places.update(run.places)
                shutil.rmtree(run.folder)
            num_kills += places.total()
            where = ", ".join(f"{count} {name}" for name, count in sorted(places.items()))
            print(f"{cell!s:<28} {places.total():>5} {runs:>5} {num_equal:>5}  {where}", flush=True)
    share = 100 * num_equal_kills / num_kills
    print(f"{num_equal_kills} of {num_kills} kills ({share:.1f} %): resumed to what the unbroken run ends with")
    return 1 if num_differing else 0


def report(name: str, found: list[str], folder: Path, keep: Path) -> bool:
    """Whether something differs; if so it is said, and the folder kept."""
    if found:
        keep.mkdir(parents=True, exist_ok=True)
        kept = Path(tempfile.mkdtemp(prefix=f"{folder.parent.name}-", dir=keep)) / folder.name
        shutil.copytree(folder, kept)
        print(f"DIFFERS: {name}: {', '.join(found)}; kept in {kept}", flush=True)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
