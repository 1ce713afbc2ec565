"""How far captioning has come: a bar on a terminal, else a line a minute; pictures a second and time left in both."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["shown_captioning"]

logger = logging.getLogger(__name__)

SECONDS_A_LINE = 60.0


@contextmanager
def shown_captioning(
    total: int, *, progress: str, is_printing: bool, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Gives what to call with how many more of `total` pictures are through.

    Args:
        total: how many there are.
        progress: "auto", "bar" or "off".
        is_printing: captions go to stdout. Where that is a terminal, they show how far it is, and a bar would be drawn
            through them.
        clock: seconds, for the lines.
    """
    console = Console(stderr=True, force_terminal=True if progress == "bar" else None)
    is_on_screen = is_printing and sys.stdout.isatty()
    if progress == "off" or (progress == "auto" and is_on_screen):
        yield lambda count: None
    elif console.is_terminal:
        with _bar(console, total) as advance:
            yield advance
    else:
        yield _Lines(total, clock)


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("captioning"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total, speed="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, speed="" if speed is None else f"{speed:,.1f} pictures/s")

        yield advance


class _Lines:
    """A line each minute: for a log, and for whoever looks into it."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._total, self._clock = total, clock
        self._count = 0
        self._begun = self._told = clock()

    def __call__(self, count: int) -> None:
        self._count += count
        now = self._clock()
        if now - self._told >= SECONDS_A_LINE and self._count < self._total:
            self._told = now
            speed = self._count / (now - self._begun)
            minutes = (self._total - self._count) / speed / 60
            logger.info(
                "%s of %s pictures | %.1f pictures/s | %.1f minutes left",
                f"{self._count:,}", f"{self._total:,}", speed, minutes,
            )  # fmt: skip
