"""A look at many pictures: how far it has come is a bar on a terminal, else one line at the beginning.

`scan_shown` is for whoever wants pictures looked at; those that are known already are neither opened nor counted.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from systems.pixel_llm.data.inspection_pictures import BadPicture, ScannedPicture
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.scan_cache import ScanCache

__all__ = ["scan_shown"]

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
    columns = (
        TextColumn("looking at pictures"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)
