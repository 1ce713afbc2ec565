"""Going over many pictures: how far it has come is a bar on a terminal, else one line at the beginning.

`scan_shown` is for whoever wants pictures looked at; those that are known already are neither opened nor counted.
`pictures_shown` is for all that goes over pictures in several parts, as captioning and scoring them does.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from systems.pixel_llm.data.inspection_pictures import BadPicture, ScannedPicture
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.scan_cache import ScanCache

__all__ = ["pictures_shown", "scan_shown"]

logger = logging.getLogger(__name__)


def scan_shown(
    cache: ScanCache, paths: Sequence[PicturePath], *, num_workers: int | None = None
) -> list[ScannedPicture | BadPicture]:
    """As `ScanCache.scan`, in sight of the user."""
    with _progress(cache.count_unknown(paths)) as on_progress:
        return cache.scan(paths, num_workers=num_workers, on_progress=on_progress)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call with how many more of `total` pictures have been looked at."""
    if total == 0:
        yield lambda count: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        logger.info("Looking at %s.", "1 picture" if total == 1 else f"{total:,} pictures")
        yield lambda count: None
        return
    with _bar(console) as progress:
        task = progress.add_task("looking at pictures", total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def pictures_shown() -> Iterator[Callable[[str, int, int], None]]:
    """Gives what to call with what is done, with how many pictures it is, and of how many."""
    console = Console(stderr=True)
    if not console.is_terminal:
        told: set[str] = set()

        def tell(what: str, done: int, total: int) -> None:
            if what not in told:
                told.add(what)
                logger.info("%s: %s", what.capitalize(), "1 picture" if total == 1 else f"{total:,} pictures")

        yield tell
        return
    with _bar(console) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    progress.remove_task(task)
                tasks.clear()
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield show


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, expand=True, transient=True, redirect_stdout=False)
