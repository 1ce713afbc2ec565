"""A run for TensorBoard: figures as scalars, the panel's captions as a table, its pictures once.

Written by torch's own `SummaryWriter`, which needs the package tensorboard (the extra `tensorboard`), the program that
shows the files. A run that resumes hides what the one before told of later steps.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.panel import PanelCaption

__all__ = ["TensorBoardLog"]


class TensorBoardLog:
    """Writes event files into `folder`; `OutsideLog` tells what the methods are for.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboard  # noqa: F401  else torch's words for it, which tell nothing of extras
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"log_to='tensorboard' needs the package tensorboard, which cannot be imported ({error}). Run: pip "
                "install 'pixel-llm[tensorboard]', or leave log_to out."
            ) from error
        self._folder = folder
        self._make_writer: Any = SummaryWriter
        self._writer: Any = None
        self._has_pictures = False

    def begin(self, *, step: int) -> None:
        """What was told of steps after this one is hidden."""
        self._writer = self._make_writer(str(self._folder), purge_step=step + 1 if step else 0)
        self._has_pictures = False

    def add_figures(self, figures: Mapping[str, float], *, step: int) -> None:
        """A scalar each."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # so that a full disk is told of here, and a kill loses nothing

    def add_captions(self, captions: Sequence[PanelCaption], *, step: int) -> None:
        """A table of what was said; the pictures, under the same numbers, with the first one."""
        rows = [
            f"| {number} | {_cell(PurePath(each.image).name)} | {_cell(each.caption)} | "
            f"{' / '.join(map(_cell, each.references))} |"
            for number, each in enumerate(captions, start=1)
        ]
        table = "\n".join(["| | picture | the model | people |", "|---|---|---|---|", *rows])
        self._writer.add_text("panel", table, step)
        if not self._has_pictures:
            for number, each in enumerate(captions, start=1):
                self._writer.add_image(f"panel/{number}", each.pixels, step, dataformats="HWC")
            self._has_pictures = True
        self._writer.flush()

    def end(self, *, is_complete: bool) -> None:
        """Close the file, which has no place for how it ended."""
        self._writer.close()


def _cell(text: str) -> str:
    """Any text as a cell of a Markdown table, as which TensorBoard shows texts."""
    marked = " ".join(text.split()).replace("&", "&amp;")
    for mark in "\\`*_[]|<>":
        marked = marked.replace(mark, f"&#{ord(mark)};")
    return marked
