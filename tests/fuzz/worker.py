"""One process that runs case after case, and says in shared memory what it is at, for whoever watches it.

Each target gets a slice of time in turn. Before a case its number, the time and the processor time are written down;
afterwards it is counted. What goes wrong inside the process is a failure and is kept at once; what ends or stops the
process is for the watcher to find.
"""

import contextlib
import faulthandler
import hashlib
import importlib
import io
import itertools
import json
import math
import operator
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from ctypes import c_double
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from PIL import Image

from tests.fuzz.manifest_cases import Case
from tests.fuzz.picture_seeds import picture_seeds
from tests.fuzz.targets import Target, Wrong, data_folder

__all__ = ["Board", "keep_failure", "make_case", "run_case", "work"]

MEMORY_MIB = 512
"""Above what the process has when idle; more is a failure."""

PARQUET_MEMORY_MIB = 2600
"""pyarrow takes the memory that a page of a table claims, up to 2 GiB, before it looks whether the file has as much,
and offers no bound."""

_ADDRESS_SPACE_MIB = 12288
"""Above what the process has when idle; the machine stays safe whatever a case asks for. pyarrow keeps the addresses of
what tables have claimed, some gigabytes, without using them."""

SLICE_SECONDS = 2.0
_KEPT_PER_KIND = 3
_MINIMISING_RUNS = 200

_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_STARTS = ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn")
_MAY_BE_OPENED = tuple(
    {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, Path(__file__).parents[2], *sys.path) if path}
)


class Board:
    """What a worker is at, and what it has done: numbers in memory that the watcher shares."""

    def __init__(self, first_number: Sequence[int], *, step: int, cases: int | None) -> None:
        targets = len(first_number)
        self.now = RawArray(c_double, [-1.0, 0.0, 0.0, 0.0])
        """Target, number, processor seconds and clock at the start of the case; target -1 between cases."""
        self.next_number = RawArray(c_double, list(map(float, first_number)))
        self.step = step
        """From one number to the next: the other numbers are other workers'."""
        self.end_number = [math.inf if cases is None else number + cases * step for number in first_number]
        self.executions = RawArray(c_double, targets)
        self.read = RawArray(c_double, targets)
        self.failures = RawArray(c_double, targets)
        self.cpu_seconds = RawArray(c_double, targets)
        self.peak_mib = RawArray(c_double, targets)


def make_case(target: Target, seed: int, number: int) -> Case:
    """The case of this number."""
    return target.make(random.Random(f"{seed} {target.name} {number}"))


def work(
    board: Board, targets: Sequence[Target], *, seed: int, keep: Path, errors: Path, place: str, first_target: int = 0
) -> None:
    """Run cases until told to end by SIGTERM, or until all numbers are through."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the watcher ends it
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    with errors.open("a+b") as stream, data_folder(place) as folder:
        os.dup2(stream.fileno(), 2)  # what decoders print
        faulthandler.enable(stream)
        faulthandler.register(signal.SIGUSR1, stream, all_threads=False)
        watched = _Watched(folder)
        _warm_up()
        idle = _status_mib("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (int((idle + _ADDRESS_SPACE_MIB) * 2**20), resource.RLIM_INFINITY))
        turns = itertools.cycle([*range(first_target, len(targets)), *range(first_target)])
        while not stop and any(map(operator.lt, board.next_number, board.end_number)):
            index = next(turns)
            end = time.monotonic() + SLICE_SECONDS
            while not stop and board.next_number[index] < board.end_number[index] and time.monotonic() < end:
                _run_one(board, index, targets[index], watched=watched, seed=seed, keep=keep)


def _run_one(board: Board, index: int, target: Target, *, watched: "_Watched", seed: int, keep: Path) -> None:
    number = int(board.next_number[index])
    before = time.process_time()
    board.now[1:] = [float(number), before, time.monotonic()]
    board.now[0] = float(index)
    case = make_case(target, seed, number)
    failure = watched.run(target, case)
    board.next_number[index] += board.step
    board.executions[index] += 1
    board.read[index] += watched.was_read
    board.cpu_seconds[index] += time.process_time() - before
    board.peak_mib[index] = max(board.peak_mib[index], watched.peak_mib)
    if failure is not None:
        board.failures[index] += 1
        kind, details = failure
        folder = keep_failure(keep, target, case, kind=kind, details=details, seed=seed, number=number)
        if folder is not None:
            write_files(folder, _minimised(board, target, case, kind, watched))
    board.now[0] = -1.0


class _Watched:
    """Runs cases in a folder, and looks at what else they do: memory, programs started, files opened elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.was_read = False
        self.peak_mib = 0.0
        self._events: list[str] = []
        self._is_on = False
        # What can be made again is kept beside the data: tables of pictures are unpacked there.
        self._cache = folder.parent / "cache"
        os.environ["PIXEL_LLM_CACHE"] = str(self._cache)
        self._inside = (os.path.realpath(folder) + os.sep, str(folder), str(self._cache), os.path.realpath(self._cache))
        sys.addaudithook(self._hear)

    def run(self, target: Target, case: Case) -> tuple[str, str] | None:
        """What went wrong: its kind, and the details."""
        with written(self.folder, case):
            printed = _size_of_stderr()
            self._events.clear()
            self.was_read = False
            idle = _reset_peak()
            self._is_on = True
            try:
                self.was_read = target.check(self.folder, case)
            except Wrong as error:
                return str(error.args[0]), _traceback(error)
            except BaseException as error:
                self._is_on = False
                return f"{type(error).__name__} at {_place(error)}", _traceback(error)
            finally:
                self._is_on = False
                self.peak_mib = _status_mib("VmHWM") - idle
                shutil.rmtree(self._cache, ignore_errors=True)
            if self._events:
                return self._events[0].partition(" ")[0] + " outside or a program started", "\n".join(self._events)
            is_table = any(name.endswith(".parquet") for name in case.files)
            if self.peak_mib > (PARQUET_MEMORY_MIB if is_table else MEMORY_MIB):
                return "too much memory", f"{self.peak_mib:.0f} MiB above idle"
            if control := _control_printed_after(printed):
                return "control characters on the screen", repr(control)
        return None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event in _STARTS:
            self._events.append(f"{event} {arguments!r:.500}")
        elif event == "open" and arguments and isinstance(arguments[0], str | bytes):
            path = os.fsdecode(arguments[0])
            if not os.path.normpath(Path.cwd() / path).startswith((*self._inside, *_MAY_BE_OPENED)):
                self._events.append(f"open {path!r:.500}")


@contextlib.contextmanager
def written(folder: Path, case: Case) -> Iterator[None]:
    """The files of a case lie in the folder, inside."""
    paths, folders = [], []
    try:
        for name, content in case.files.items():
            path = folder / name
            if not path.parent.exists():
                path.parent.mkdir(parents=True)
                folders.append(path.parent)
            path.write_bytes(content)
            paths.append(path)
        yield
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
        for each in folders:
            each.rmdir()


def run_case(target: Target, folder: Path, case: Case) -> bool:
    """Run a case without watching, as in a test. Raises what is wrong."""
    with written(folder, case):
        return target.check(folder, case)


def _warm_up() -> None:
    """What is loaded late belongs to the idle process: Pillow's decoders, and pyarrow where it is there."""
    for content in picture_seeds()[:200]:
        with contextlib.suppress(OSError), Image.open(io.BytesIO(content)) as image:
            image.load()
    with contextlib.suppress(ImportError):
        importlib.import_module("pyarrow.parquet")


def _status_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def _reset_peak() -> float:
    """Start the peak of memory anew; what is held now, in MiB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def _size_of_stderr() -> int:
    return os.fstat(2).st_size


def _control_printed_after(start: int) -> bytes:
    """What was printed since, if it holds characters that a terminal acts on."""
    size = _size_of_stderr()
    if size <= start:
        return b""
    printed = os.pread(2, min(size - start, 10_000), start)
    return printed if _CONTROL.search(printed) else b""


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-8000:]


def _place(error: BaseException) -> str:
    """The innermost line that raised, as in images.py:120."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


# --- failures ---------------------------------------------------------------------------------------------------------


def _kind_name(target: Target, kind: str) -> str:
    return f"{target.name}-{hashlib.sha1(kind.encode()).hexdigest()[:8]}"


def kind_folder_is_open(keep: Path, target: Target, kind: str) -> bool:
    """Whether another failure of this kind is worth keeping."""
    return len(list(keep.glob(f"{_kind_name(target, kind)}-*"))) < _KEPT_PER_KIND


def keep_failure(
    keep: Path, target: Target, case: Case, *, kind: str, details: str, seed: int, number: int
) -> Path | None:
    """Write a failing case down; None where there are enough of its kind."""
    if not kind_folder_is_open(keep, target, kind):
        return None
    folder = keep / f"{_kind_name(target, kind)}-{seed}-{number}"
    write_files(folder, case)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").write_text(
        f"{kind}\n\ntarget {target.name}, seed {seed}, number {number}\n"
        f"{json.dumps({'manifest': case.manifest, 'options': case.options})}\n\n{details}\n",
        encoding="utf-8", errors="backslashreplace",
    )  # fmt: skip
    return folder


def write_files(folder: Path, case: Case) -> None:
    """The files of a case, beside what is said of its failure."""
    for name, content in case.files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _minimised(board: Board, target: Target, case: Case, kind: str, watched: _Watched) -> Case:
    """The case with what is not needed for a failure of its kind cut off its files, as far as a few tries reach."""
    runs = 0
    for name in case.files:
        length = max(1, len(case.files[name]) // 2)
        while length and runs < _MINIMISING_RUNS:
            at, has_changed = 0, False
            while at < len(case.files[name]) and runs < _MINIMISING_RUNS:
                data = case.files[name]
                fewer = Case({**case.files, name: data[:at] + data[at + length :]}, case.manifest, case.options)
                runs += 1
                board.now[2:] = [time.process_time(), time.monotonic()]
                failure = watched.run(target, fewer)
                if failure is not None and failure[0] == kind:
                    case, has_changed = fewer, True
                else:
                    at += length
            if not has_changed or length > len(case.files[name]):
                length //= 2
    return case
