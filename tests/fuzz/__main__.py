"""Start workers, watch them, say each minute how it goes, and keep what fails.

A worker that dies, hangs or fails to answer is found here: the case that it was at is made again from its number, kept,
and a new worker goes on behind it. The exit status is 1 where anything failed.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.fuzz.broken_targets import broken_targets
from tests.fuzz.manifest_cases import Case
from tests.fuzz.targets import Target, all_targets, data_folder, formats_without_maker
from tests.fuzz.worker import MEMORY_MIB, Board, keep_failure, make_case, run_case, work

_WALL_FACTOR = 15
"""A case may take that many times its processor seconds by the clock: the machine may be busy."""

_POLL_SECONDS = 0.25

_MOST_DEATHS_BETWEEN = 5


@dataclass
class _Worker:
    process: BaseProcess
    board: Board
    errors: Path
    last_case: tuple[int, int] = (-1, -1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz pictures and caption formats.")
    parser.add_argument("--minutes", type=float, default=1.0, help="by the clock; default 1")
    parser.add_argument("--cases", type=int, help="end after so many of each target and worker, or after the minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of targets, with commas between them")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="for failures and where a run ended")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes; default 1")
    parser.add_argument("--seconds", type=float, default=20.0, help="processor time a case may take; default 20")
    parser.add_argument(
        "--again", type=Path, help="run the kept failures below this folder once more, and nothing else"
    )
    options = parser.parse_args(arguments)
    known = all_targets()
    if options.again is not None:
        return _again(options.again, known)
    chosen = [name for name in options.only.split(",") if name] or list(known)
    known |= broken_targets()
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"unknown target {unknown[0]!r}; there are {', '.join(all_targets())}")
    options.keep.mkdir(parents=True, exist_ok=True)
    for name in formats_without_maker():
        print(f"note: nothing writes files of the format {name!r} yet, so it is not fuzzed")
    # In memory, where it is there: the files of a case are written and read some thousand times a second.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pixel-llm-fuzz-", dir=memory, ignore_cleanup_errors=True) as place:
        return _Run(options, [known[name] for name in chosen], place).run()


class _Run:
    """The workers and what is known of them."""

    def __init__(self, options: argparse.Namespace, targets: list[Target], place: str) -> None:
        self.options = options
        self.targets = targets
        self.place = place
        self.started = time.monotonic()
        self.cut_off = [0] * len(targets)
        """Failures that ended a worker, by target."""
        self._state = options.keep / f"next-{options.seed}.json"
        self._context = multiprocessing.get_context("fork")
        before = json.loads(self._state.read_text()) if self._state.is_file() else {}
        first = [int(before.get(target.name, 0)) for target in targets]
        if any(first):
            print(f"going on with seed {options.seed} where the last run ended ({self._state})")
        self.workers = [
            self._start(index, Board([number + index for number in first], step=options.jobs, cases=options.cases))
            for index in range(options.jobs)
        ]

    def run(self) -> int:
        """Watch until the time is over or somebody presses Ctrl-C; the exit status."""
        end = self.started + self.options.minutes * 60
        told = self.started
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        try:
            while time.monotonic() < end and self.workers:
                time.sleep(_POLL_SECONDS)
                for index, worker in enumerate(list(self.workers)):
                    self._look_at(index, worker)
                if time.monotonic() - told >= 60:
                    told += 60
                    self._tell_in_a_line()
                if all(not worker.process.is_alive() and worker.process.exitcode == 0 for worker in self.workers):
                    break
        except KeyboardInterrupt:
            print("\nstopped")
        for worker in self.workers:
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
        self._save_state()
        return self._tell_the_end()

    def _start(self, index: int, board: Board, first_target: int = 0) -> _Worker:
        errors = self.options.keep / f"worker-{index}.log"
        errors.write_bytes(b"")
        process = self._context.Process(
            target=work,
            args=(board, self.targets),
            kwargs={
                "seed": self.options.seed, "keep": self.options.keep, "errors": errors, "place": self.place,
                "first_target": first_target,
            },
            daemon=True,
        )  # fmt: skip
        process.start()
        return _Worker(process, board, errors)

    def _look_at(self, index: int, worker: _Worker) -> None:
        """Find what died or hangs, and start anew behind it."""
        process, now = worker.process, list(worker.board.now)
        if process.is_alive():
            if now[0] < 0:
                return
            cpu = _cpu_seconds(process.pid) - now[2]
            wall = time.monotonic() - now[3]
            if cpu < self.options.seconds and wall < self.options.seconds * _WALL_FACTOR:
                return
            if list(worker.board.now) != now:
                return
            os.kill(process.pid or 0, signal.SIGUSR1)
            time.sleep(1)
            process.kill()
            process.join()
            kind, details = "a hang", f"{cpu:.1f} processor seconds, {wall:.1f} by the clock"
        elif process.exitcode == 0:
            return
        else:
            kind, details = f"the process ended with {_ending(process.exitcode)}", ""
        now = list(worker.board.now)
        tail = worker.errors.read_text(encoding="utf-8", errors="backslashreplace")[-4000:]
        if now[0] < 0:
            print(f"worker {index}: {kind} between two cases\n{tail}")
            self.cut_off[0] += 1
            if self.cut_off[0] > _MOST_DEATHS_BETWEEN:
                raise RuntimeError("the workers themselves are broken")
        else:
            target, number = self.targets[int(now[0])], int(now[1])
            self.cut_off[int(now[0])] += 1
            worker.board.failures[int(now[0])] += 1
            worker.board.next_number[int(now[0])] = float(number + self.options.jobs)
            case = make_case(target, self.options.seed, number)
            place = _innermost(tail)
            folder = keep_failure(
                self.options.keep, target, case, kind=f"{kind} {place}", details=f"{details}\n{tail}",
                seed=self.options.seed, number=number,
            )  # fmt: skip
            print(
                f"{target.name} number {number}: {kind} {place}; {folder or 'enough of its kind are kept'}", flush=True
            )
        worker.board.now[0] = -1.0
        self.workers[index] = self._start(index, worker.board, (int(now[0]) + 1) % len(self.targets))

    def _sum(self, field: str) -> list[float]:
        return [sum(each) for each in zip(*(getattr(worker.board, field) for worker in self.workers), strict=True)]

    def _tell_in_a_line(self) -> None:
        executions, failures = self._sum("executions"), self._sum("failures")
        seconds = time.monotonic() - self.started
        each = ", ".join(
            f"{target.name} {int(count):,}" for target, count in zip(self.targets, executions, strict=True)
        )
        print(
            f"{seconds / 60:.0f} min: {int(sum(executions)):,} executions ({sum(executions) / seconds:.0f}/s), "
            f"{int(sum(failures))} failures; {each}",
            flush=True,
        )
        self._save_state()

    def _save_state(self) -> None:
        state = json.loads(self._state.read_text()) if self._state.is_file() else {}
        for index, target in enumerate(self.targets):
            state[target.name] = int(max(worker.board.next_number[index] for worker in self.workers))
        self._state.write_text(json.dumps(state, indent=1) + "\n")

    def _tell_the_end(self) -> int:
        executions, failures, cpu = self._sum("executions"), self._sum("failures"), self._sum("cpu_seconds")
        shares = [read / max(count, 1) for read, count in zip(self._sum("read"), executions, strict=True)]
        print(f"{'target':16} {'executions':>11} {'per CPU s':>10} {'read':>5} {'failures':>9} {'CPU s':>8} {'MiB':>6}")
        for index, target in enumerate(self.targets):
            peak = max(worker.board.peak_mib[index] for worker in self.workers)
            print(
                f"{target.name:16} {int(executions[index]):11,} {executions[index] / max(cpu[index], 1e-9):10,.0f} "
                f"{shares[index]:5.0%} {int(failures[index]):9,} {cpu[index]:8.1f} {peak:6,.0f}"
            )
        seconds = time.monotonic() - self.started
        print(
            f"{'all':16} {int(sum(executions)):11,} {sum(executions) / max(sum(cpu), 1e-9):10,.0f} {'':5} "
            f"{int(sum(failures)):9,} {sum(cpu):8.1f}\n{seconds:.0f} s by the clock, {sum(executions) / seconds:,.0f} "
            f"executions a second; limits: {self.options.seconds:.0f} CPU s a case, {MEMORY_MIB} MiB above idle"
        )
        kept = sorted(path for path in self.options.keep.iterdir() if path.is_dir())
        for folder in kept:
            print(f"kept: {folder}: {(folder / 'failure.txt').read_text(encoding='utf-8').splitlines()[0]}")
        return int(any(failures) or any(self.cut_off))


def _again(kept: Path, known: dict[str, Target]) -> int:
    """Run kept failures in this very process, one after the other, and say which still fail."""
    still = 0
    with data_folder() as folder:
        for told in sorted(kept.rglob("failure.txt")):
            lines = told.read_text(encoding="utf-8").splitlines()
            files = sorted(path for path in (told.parent / "files").rglob("*") if path.is_file())
            case = Case(
                {path.relative_to(told.parent / "files").as_posix(): path.read_bytes() for path in files},
                **json.loads(lines[3]),
            )
            target = known[lines[2].split()[1].rstrip(",")]
            try:
                run_case(target, folder, case)
            except Exception as error:
                still += 1
                print(f"{told.parent}: {type(error).__name__}: {error}"[:500])
            else:
                print(f"{told.parent}: passes")
    return int(still > 0)


def _cpu_seconds(pid: int | None) -> float:
    """Processor time of a process, its own and the system's for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ending(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"


def _innermost(log: str) -> str:
    """The line of Python that was at work, out of what faulthandler wrote."""
    lines = [line.strip() for line in log.splitlines() if line.strip().startswith("File ")]
    return lines[0] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
