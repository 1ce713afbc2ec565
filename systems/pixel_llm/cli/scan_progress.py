"""How far a look at many pictures has come: a bar on a terminal, else one line at the beginning."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["scan_progress"]

logger = logging.getLogger(__name__)


@contextmanager
def scan_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call with how many more of `total` pictures have been looked at."""
    console = Console(stderr=True)
    if not console.is_terminal:
        logger.info("Looking at %d pictures.", total)
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
