"""Kill a training, let it go on, kill it again, and see that it ends as one that was left alone.

`run_unbroken` trains a cell to its end and notes, from outside, when each line of its log came and how long its saves
took. `run_killed` trains it again in a folder of its own. Each of its processes but the last gets SIGKILL at a moment
drawn before it begins (`KillPoint`): so long after a certain line of the log, or after a save has begun. It is this
process that looks and kills; the trained one knows nothing of it.

The processes are forked from one that has loaded torch and started no thread, the fork server of `multiprocessing`, so
that a kill costs a tenth of a second; with "spawn" each is an interpreter of its own.
"""

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from random import Random
from typing import Any, Literal

from systems.pixel_llm.checkpoint_folder import TRAINING_STATE_FILE, list_checkpoints
from systems.pixel_llm.checkpoint_ranking import latest_record
from tests.kills.outcome import Outcome, read_outcome
from tests.kills.training import Cell, train_cell

POLL_SECONDS = 0.001
MOST_SECONDS = 300
"""A process that takes longer hangs."""

Aim = Literal["anywhere", "saving", "epoch end"]
AIMS: tuple[Aim, ...] = ("anywhere", "anywhere", "saving", "epoch end")
"""What a kill is meant to hit, each as likely as the others."""

Key = tuple[str, int]
"""Of a line of the log: its kind and its step."""


@dataclass(frozen=True)
class Line:
    """One line of a log, as it was seen from outside."""

    key: Key
    seconds: float
    """After the process was started."""


@dataclass(frozen=True)
class Life:
    """What was seen of one process."""

    exit_code: int
    lines: list[Line]
    save_seconds: float
    """The longest that a folder was being written; 0 where none was."""
    was_saving: bool
    """When it ended."""

    @property
    def is_killed(self) -> bool:
        """Whether the kill came before the end of the training, not merely of the process."""
        return self.exit_code == -signal.SIGKILL and not (self.lines and self.lines[-1].key[0] == "end")


@dataclass(frozen=True)
class KillPoint:
    """A moment in a process's life: `seconds` after a line of the log, or after the first save that follows it."""

    after: Key | None
    """None: from the start of the process."""
    seconds: float
    waits_for_save: bool = False


@dataclass(frozen=True)
class Unbroken:
    """A run that was left alone."""

    outcome: Outcome
    life: Life


@dataclass(frozen=True)
class Killed:
    """A run that was killed again and again until it was over."""

    folder: Path
    outcome: Outcome
    places: list[str]
    """Where each kill hit."""


# --- runs -------------------------------------------------------------------------------------------------------------


def run_unbroken(cell: Cell, pictures: Path, folder: Path, *, method: str = "forkserver") -> Unbroken:
    """Train `cell` to the end in the new `folder`."""
    folder.mkdir()
    life = _live(cell, pictures, folder, method=method, point=None)
    _check_ended_well(life, folder)
    return Unbroken(read_outcome(folder), life)


def run_killed(
    cell: Cell,
    pictures: Path,
    folder: Path,
    *,
    unbroken: Unbroken,
    kills: int,
    draw: Random,
    method: str = "forkserver",
) -> Killed:
    """Train `cell` in the new `folder`, killed up to `kills` times, or until it was quicker than a kill."""
    folder.mkdir()
    places: list[str] = []
    for _ in range(kills):
        step = _saved_step(folder)
        life = _live(cell, pictures, folder, method=method, point=draw_point(unbroken.life, step=step, draw=draw))
        if not life.is_killed:
            break
        places.append(_place(life, unbroken.life))
    life = _live(cell, pictures, folder, method=method, point=None)
    _check_ended_well(life, folder)
    return Killed(folder, read_outcome(folder), places)


def kill_runs(
    cell: Cell,
    pictures: Path,
    folder: Path,
    *,
    unbroken: Unbroken,
    kills: int,
    kills_a_run: int,
    draw: Random,
    method: str = "forkserver",
) -> Iterator[Killed]:
    """Runs in folders inside the new `folder`, one after the other, until `kills` have hit in all."""
    folder.mkdir()
    num_runs = num_hits = num_misses = 0
    while num_hits < kills:
        wanted = min(kills_a_run, kills - num_hits)
        run = run_killed(
            cell, pictures, folder / f"run_{num_runs}", unbroken=unbroken, kills=wanted, draw=draw, method=method
        )
        num_runs += 1
        num_hits += len(run.places)
        num_misses += not run.places
        assert num_misses <= kills + 5, f"the kills come too late: {cell} is over before"
        yield run


def draw_point(life: Life, *, step: int, draw: Random) -> KillPoint:
    """A moment of what is left after `step` of a run that lives as long as `life`."""
    left = [0, *(index for index, line in enumerate(life.lines[:-1]) if line.key[1] > step)]
    aim = draw.choice(AIMS)
    if aim == "epoch end":
        ends = [index for index in left if "validation" in (life.lines[index].key[0], life.lines[index + 1].key[0])]
        left = ends or left
    index = draw.choice(left)
    if index == 0:  # the line "start", which a resumed run has at another step
        return KillPoint(after=None, seconds=draw.uniform(0, life.lines[1].seconds))
    line, following = life.lines[index], life.lines[index + 1]
    if aim == "saving":
        return KillPoint(line.key, seconds=draw.uniform(0, life.save_seconds), waits_for_save=True)
    return KillPoint(line.key, seconds=draw.uniform(0, following.seconds - line.seconds))


def _place(life: Life, unbroken: Life) -> str:
    """Where the kill hit: what the process did, or had just done."""
    if life.was_saving:
        return "saving"
    if len(life.lines) < 2:
        return "starting"
    last_of_epoch = {line.key[1] for line in unbroken.lines if line.key[0] == "validation"}
    kind, step = life.lines[-1].key
    return "epoch end" if kind != "train" or step in last_of_epoch else "stepping"


def _saved_step(folder: Path) -> int:
    """The step from which the next process will go on."""
    latest = latest_record(list_checkpoints(folder / "checkpoints"))
    if latest is None:
        return 0
    saved = json.loads((latest.path / TRAINING_STATE_FILE).read_text(encoding="utf-8"))
    return int(saved["training_state"]["state"]["step"])


def _check_ended_well(life: Life, folder: Path) -> None:
    if life.exit_code != 0:
        said = (folder / "log.txt").read_text(encoding="utf-8")[-3000:]
        raise AssertionError(f"the training in {folder} ended with exit code {life.exit_code}:\n{said}")


# --- one process ------------------------------------------------------------------------------------------------------


def _live(cell: Cell, pictures: Path, folder: Path, *, method: str, point: KillPoint | None) -> Life:
    """Start a process that trains, watch it to its end, or to `point`, where it is killed."""
    log, watch = _LogTail(folder / "metrics.jsonl"), _SaveWatch(folder / "checkpoints")
    with _started(cell, pictures, folder, method=method) as process:
        started, due = time.perf_counter(), math.inf
        seen: list[Line] = []
        while not wait([process.sentinel], timeout=POLL_SECONDS):
            now = time.perf_counter()
            assert now - started < MOST_SECONDS, f"the training in {folder} hangs"
            seen += [Line(key, now - started) for key in log.new_keys()]
            watch.look(now)
            if point is None:
                continue
            if due == math.inf and (point.after is None or point.after in [line.key for line in seen]):
                due = _due(point, watch, now if point.after is not None else started)
            if due < now + POLL_SECONDS:
                wait([process.sentinel], timeout=max(0.0, due - now))
                process.kill()
                wait([process.sentinel], timeout=MOST_SECONDS)
        seen += [Line(key, time.perf_counter() - started) for key in log.new_keys()]
        watch.look(time.perf_counter())
        process.join()
        return Life(process.exitcode, seen, watch.longest, was_saving=watch.is_saving)


def _due(point: KillPoint, watch: "_SaveWatch", now: float) -> float:
    """When to kill; not yet known while the save is waited for."""
    return math.inf if point.waits_for_save and not watch.is_saving else now + point.seconds


@contextmanager
def _started(cell: Cell, pictures: Path, folder: Path, *, method: str) -> Iterator[Any]:
    context = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["torch._dynamo", "tests.kills.training"])  # an optimizer loads the first
    process = context.Process(target=train_cell, args=(cell, pictures, folder))
    process.start()
    try:
        yield process
    finally:
        # Workers of a killed process end by themselves within some seconds; nobody waits for that here.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


class _LogTail:
    """The whole lines that a file grew by since it was last asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        self._position = path.stat().st_size if path.exists() else 0

    def new_keys(self) -> list[Key]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                found = file.read()
        except FileNotFoundError:
            return []
        self._position += len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        records = [json.loads(line) for line in lines if line]
        return [(record["kind"], record["step"]) for record in records]


class _SaveWatch:
    """Whether a checkpoint is being written, as the hidden folder shows that there is while one is."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._before = folder, _hidden(folder)
        self._since = math.nan
        self.longest = 0.0

    @property
    def is_saving(self) -> bool:
        return not math.isnan(self._since)

    def look(self, now: float) -> None:
        if not _hidden(self._folder) - self._before:
            self._since = math.nan
            return
        if not self.is_saving:
            self._since = now
        self.longest = max(self.longest, now - self._since)


def _hidden(folder: Path) -> set[str]:
    try:
        return {name for name in os.listdir(folder) if name.startswith(".")}  # noqa: PTH208  quicker, and often asked
    except FileNotFoundError:
        return set()
