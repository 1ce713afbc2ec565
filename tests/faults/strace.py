"""One system call of a process made to fail, by the program strace.

A child process is forked, stops, is attached to and goes on; so the numbers of its calls begin where its work does, and
not at Python's own start. strace counts the calls of each kind for each thread apart.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

__all__ = ["KILL", "Fault", "Point", "Traced", "points_within", "run_traced", "why_not_traceable"]

KILL = "KILL"
_ALLOW_ANY_TRACER = (0x59616D61, ctypes.c_ulong(-1))  # PR_SET_PTRACER, PR_SET_PTRACER_ANY
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, order=True)
class Point:
    """A system call of a run: the `number`-th, from 1 on, of its `kind` in its thread."""

    kind: str
    number: int


@dataclass(frozen=True)
class Fault:
    """What happens at a point."""

    point: Point
    effect: str
    """KILL, or the name of an error such as ENOSPC."""
    is_lasting: bool = False
    """Whether all later calls of the kind fail too."""

    @property
    def expression(self) -> str:
        """As strace has it."""
        effect = "signal=KILL" if self.effect == KILL else f"error={self.effect}"
        return f"inject={self.point.kind}:{effect}:when={self.point.number}{'+' if self.is_lasting else ''}"

    def __str__(self) -> str:
        return f"{self.effect} at {self.point.kind} {self.point.number}{' and after' if self.is_lasting else ''}"


@dataclass(frozen=True)
class Traced:
    """What became of a child."""

    told: tuple[str, ...]
    """The lines that it told."""
    exit_code: int
    """That of a shell: 137 where it was killed."""
    calls: tuple[str, ...]
    """As strace printed them."""

    @property
    def is_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.exit_code == _KILLED

    @property
    def num_errors(self) -> int:
        """How often a call failed as it was told to: threads that are made later count their calls from 1 again."""
        return sum("(INJECTED)" in call for call in self.calls)


def run_traced(work: Callable[[Callable[[str], None]], None], log: Path, *, fault: Fault | None = None) -> Traced:
    """Run `work` in a forked child under strace; it is given a function that tells this process a line.

    Without a fault every call is written down, with one only those of its kind.

    Raises:
        RuntimeError: strace could not attach; the message is its own.
    """
    hearing, telling = socket.socketpair()
    child = os.fork()
    if child == 0:
        hearing.close()
        _run_child(work, telling)
    telling.close()
    os.waitpid(child, os.WUNTRACED)
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-o", log, "-p", str(child), *_filters(fault)], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    answer = tracer.stderr.readline()
    if " attached" not in answer:
        os.kill(child, signal.SIGKILL)
    os.kill(child, signal.SIGCONT)
    with hearing, hearing.makefile(encoding="utf-8") as told:
        lines = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    tracer.communicate()
    if " attached" not in answer:
        raise RuntimeError(answer.strip())
    code = os.waitstatus_to_exitcode(status)
    calls = log.read_text(errors="replace").splitlines()
    return Traced(tuple(lines), 128 - code if code < 0 else code, tuple(calls))


def _filters(fault: Fault | None) -> list[str]:
    return [] if fault is None else ["-e", f"trace={fault.point.kind}", "-e", fault.expression]


def _run_child(work: Callable[[Callable[[str], None]], None], telling: socket.socket) -> NoReturn:
    def tell(line: str) -> None:
        telling.sendall((line.replace("\n", " | ") + "\n").encode())  # no call that files know

    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(*_ALLOW_ANY_TRACER, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work(tell)
        code = 0
    except BaseException:
        tell(f"not caught: {traceback.format_exc()}")
    finally:
        os._exit(code)


def points_within(folder: Path, calls: Iterable[str]) -> Iterator[tuple[Point, str]]:
    """The calls that have to do with `folder` or what is in it, each with its line. Of several threads each once."""
    counts: Counter[tuple[str, str]] = Counter()
    found = set()
    for line in calls:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, kind, rest = match.groups()
        counts[thread, kind] += 1
        point = Point(kind, counts[thread, kind])
        if str(folder) in rest and point not in found:
            found.add(point)
            yield point, line


def why_not_traceable(log: Path) -> str | None:
    """The reason why nothing can be traced on this machine; None where it can."""
    if not hasattr(os, "fork"):
        return "this system has no fork"
    if shutil.which("strace") is None:
        return "strace is not installed (Debian, Ubuntu: apt install strace)"
    try:
        traced = run_traced(lambda tell: tell(str(Path.cwd())), log)
    except RuntimeError as error:
        return str(error)
    return None if any("getcwd" in call for call in traced.calls) else "strace saw no system call"
