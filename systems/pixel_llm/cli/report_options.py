"""The options of `pixel-llm report`. No torch is loaded by this module."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

__all__ = ["ReportOptions"]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Make the page of a run again: curves, captions with pictures, what words looked at, scores, settings.

    It is one file that can be sent around, report.html in the run folder.
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path | None = None
    """File to write. Left out: RUN/report.html."""
    device: str | None = None
    """cpu, cuda, cuda:1, ... Left out: a GPU where there is one."""
