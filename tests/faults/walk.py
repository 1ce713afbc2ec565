"""Walk all system calls of a save that touch the checkpoint folder: a fault at each, and a look at what it leaves.

After a fault every checkpoint that was acknowledged must be there, whole, unless the save has pruned it, and that only
when its own is there; a save that fails must raise a CheckpointError that names the reason; the same process, if it
lives, must be able to save again; and a save of a new process must leave what a save without any fault leaves.
"""

import concurrent.futures
import errno
import json
import os
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from systems.pixel_llm import block_digests, checkpoint_folder, folder_writer, verified_files
from systems.pixel_llm.errors import CheckpointError
from tests.faults.scenarios import NEW_EPOCH, SCENARIOS, Scenario, contents, manager_of, names_in
from tests.faults.strace import KILL, Fault, Point, Traced, points_within, run_traced

__all__ = ["EFFECTS", "WalkReport", "in_one_thread", "walk"]

EFFECTS = (KILL, "ENOSPC", "EIO")


@dataclass
class WalkReport:
    """How a walk went."""

    points: Counter[str] = field(default_factory=Counter)
    """Faults that took place, by what they are."""
    not_reached: int = 0
    """Faults at calls that this time did not come: threads share their work anew each time."""
    failures: list[str] = field(default_factory=list)

    num_jobs_done: int = 0
    """Processes that came to their end."""

    def add(self, told: dict[str, Any], show: Callable[[str], None]) -> None:
        """Count what a process told of one fault."""
        if "done" in told:
            self.num_jobs_done += 1
        elif "note" in told:
            show(told["note"])
        elif told["problem"] == _NOT_REACHED:
            self.not_reached += 1
        else:
            self.points[f"{told['scenario']}, {told['effect']}"] += 1
            if told["problem"] is not None:
                self.failures.append(f"{told['scenario']}, {told['fault']}: {told['problem']}")
                show(self.failures[-1])

    @property
    def num_points(self) -> int:
        """Faults that took place."""
        return sum(self.points.values())

    def lines(self) -> list[str]:
        """For a person to read."""
        good = self.num_points - len(self.failures)
        share = f"{100 * good / self.num_points:.1f} %" if self.num_points else "none"
        return [
            *(f"{count:6d}  {name}" for name, count in sorted(self.points.items())),
            f"{self.num_points} faults, {good} good ({share}); {self.not_reached} calls were not met again",
            *(f"FAILED: {failure}" for failure in self.failures),
        ]


@contextmanager
def small_blocks() -> Iterator[None]:
    """Files in many blocks of many pieces, as those of a large model."""
    places = [
        (module, "BLOCK_BYTES", 8192) for module in (block_digests, folder_writer, checkpoint_folder, verified_files)
    ]
    places.append((block_digests, "_PIECE_BYTES", 4096))
    with _replaced(places):
        yield


class _OneThread(concurrent.futures.Executor):
    """Does each job when it is given, in the thread that gives it, so that every system call has a number."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "concurrent.futures.Future[Any]":
        job: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            job.set_result(function(*args, **kwargs))
        except Exception as error:
            job.set_exception(error)
        return job


@contextmanager
def in_one_thread() -> Iterator[None]:
    """No thread is made for blocks."""
    with _replaced([(block_digests, "ThreadPoolExecutor", _OneThread)]):
        yield


@contextmanager
def _replaced(places: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def walk(
    working: Path,
    *,
    scenarios: tuple[Scenario, ...] = SCENARIOS,
    effects: tuple[str, ...] = EFFECTS,
    is_lasting: bool = False,
    every: int = 1,
    jobs: int = 1,
    show: Callable[[str], None] = lambda line: None,
) -> WalkReport:
    """Walk the scenarios in the folder `working`, with each of the effects at every point, or every so many of them.

    So many `jobs` share the points, each in a process of its own.
    """
    report = WalkReport()
    readers = []
    for job in range(jobs):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            _do_job(working / str(job), scenarios, effects, is_lasting, every, slice(job, None, jobs), write_end)
        os.close(write_end)
        readers.append((child, read_end))
    for child, read_end in readers:
        with os.fdopen(read_end, encoding="utf-8") as reader:
            for line in reader:
                report.add(json.loads(line), show)
        os.waitpid(child, 0)
    if report.num_jobs_done != jobs:
        report.failures.append("a process that walked did not come to its end")
    return report


def _do_job(
    working: Path, scenarios: tuple[Scenario, ...], effects: tuple[str, ...], is_lasting: bool, every: int,
    share: slice, write_end: int,
) -> NoReturn:  # fmt: skip
    code = 1
    try:
        working.mkdir(parents=True)
        with small_blocks(), open(write_end, "w", buffering=1, encoding="utf-8") as tell:
            for scenario in scenarios:
                course = _Course(scenario, working / "template", working / "checkpoints", working / "strace.log")
                points = course.points()
                if share.start == 0:
                    kinds = ", ".join(
                        f"{count} {kind}" for kind, count in Counter(p.kind for p in points).most_common()
                    )
                    print(json.dumps({"note": f"{scenario.name}: {len(points)} system calls: {kinds}"}), file=tell)
                for effect in effects:
                    for point in points[::every][share]:
                        fault = Fault(point, effect, is_lasting=is_lasting)
                        told = {
                            "scenario": scenario.name,
                            "fault": str(fault),
                            "effect": f"{effect} from there on" if is_lasting else effect,
                        }
                        print(json.dumps(told | {"problem": course.problem_of(fault)}), file=tell)
            print(json.dumps({"done": True}), file=tell)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


_NOT_REACHED = "not reached"


class _Course:
    """One scenario, again and again from the same beginning."""

    def __init__(self, scenario: Scenario, template: Path, folder: Path, log: Path) -> None:
        self.scenario, self.template, self.folder, self.log = scenario, template, folder, log
        shutil.rmtree(template, ignore_errors=True)
        scenario.prepare(template)
        self._begin()
        self.before = contents(folder)
        in_new_process(lambda: scenario.save(folder))
        self.after = contents(folder)
        self.names = names_in(folder)
        if self.names != sorted(self.after):
            raise AssertionError(f"{scenario.name}: without any fault it leaves {self.names}")

    def points(self) -> list[Point]:
        """Of a save without faults."""
        self._begin()
        traced = run_traced(self._work, self.log)
        if traced.told != ("saved",):
            raise AssertionError(f"{self.scenario.name} failed without any fault: {traced.told}")
        return [point for point, _ in points_within(self.folder, traced.calls)]

    def problem_of(self, fault: Fault) -> str | None:
        """What a fault leaves behind that it should not; None where all is good."""
        self._begin()
        traced = run_traced(self._work, self.log, fault=fault)
        if not traced.is_killed and not traced.num_errors:
            return _NOT_REACHED
        try:
            found = contents(self.folder) if self.folder.is_dir() else {}
            if (problem := self._problem_of_contents(found)) or (problem := self._problem_of_words(traced, fault)):
                return problem
            if traced.told[-1:] == ("saved",) and (problem := self._problem_of_new(found)):
                return problem
            in_new_process(lambda: self.scenario.save(self.folder))
            found, names = contents(self.folder), names_in(self.folder)
        except (CheckpointError, ValueError, OSError) as error:
            return f"{error!r} {traced.told} {names_in(self.folder) if self.folder.is_dir() else ''}"
        if (found, names) != (self.after, self.names):
            return f"after one more save there is {found} in {names} instead of {self.after} in {self.names}"
        return None

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.template.is_dir():
            shutil.copytree(self.template, self.folder)

    def _work(self, tell: Callable[[str], None]) -> None:
        for _ in range(2):  # a run goes on after a failed save, and saves again
            try:
                self.scenario.save(self.folder)
            except CheckpointError as error:
                tell(f"refused: {error}")
            else:
                tell("saved")
                return

    def _problem_of_contents(self, found: dict[str, int]) -> str | None:
        is_new_there = all(found.get(name) == epoch for name, epoch in self.after.items())
        for name in self.before.keys() | self.after.keys() | found.keys():
            allowed = {self.before.get(name), self.after.get(name)}
            if name not in self.after and not is_new_there:  # pruned too early
                allowed = {self.before.get(name)}
            if found.get(name) not in allowed:
                return f"{name} is of epoch {found.get(name)} instead of {allowed}; before {self.before}, now {found}"
        return None

    def _problem_of_new(self, found: dict[str, int]) -> str | None:
        """A save that says it is done. It may have left more than it should: the next one prunes that."""
        if not found.items() >= self.after.items():
            return f"saved, and there is {found} instead of {self.after}"
        latest = manager_of(self.folder).latest()
        if latest is None or latest.epoch != NEW_EPOCH:
            return f"saved, and the latest is {latest}"
        return None

    def _problem_of_words(self, traced: Traced, fault: Fault) -> str | None:
        if fault.effect == KILL:
            return None if traced.is_killed else f"it lives on: {traced.told}"
        refused = [line for line in traced.told if line.startswith("refused: ")]
        saved = [line for line in traced.told if line == "saved"]
        if traced.exit_code != 0 or len(refused) + len(saved) != len(traced.told):
            return f"it ended with {traced.exit_code}, {traced.told}"
        if not saved and traced.num_errors < len(refused):
            return f"saving again failed: {traced.told}"
        reason = os.strerror(getattr(errno, fault.effect))
        if any(reason not in line for line in refused):
            return f"the message does not tell the reason: {refused}"
        return None


def in_new_process(work: Callable[[], None]) -> None:
    """Run `work` in a forked child.

    Raises:
        AssertionError: it failed.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"in a new process: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise ValueError("a save in a new process failed")
