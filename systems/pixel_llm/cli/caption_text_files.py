"""`--as txt`: beside each picture a .txt file of its name, which nothing that is there has to fear."""

import os
from collections.abc import Sequence
from pathlib import Path

from systems.pixel_llm.cli.output_file import write_whole
from systems.pixel_llm.data.folder import TEXT_EXTENSIONS, shown
from systems.pixel_llm.inference.picture_files import CaptionedPicture

__all__ = ["TextFiles"]


class TextFiles:
    """Beside each picture a .txt file of its name, a caption a line. A file that is there is left as it is."""

    is_kept = True

    def __init__(self, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._picture_by_text: dict[str, Path] = {}

    def is_done(self, path: Path) -> bool:
        """Whether there is a .txt or .caption file that is not empty."""
        return not self._overwrite and any(
            _size(path.with_suffix(extension)) for extension in (".txt", *sorted(TEXT_EXTENSIONS - {".txt"}))
        )

    def objection(self, path: Path) -> str | None:
        """Why there is no place for its caption: another picture has it."""
        text = path.with_suffix(".txt")
        if path.suffix.lower() in TEXT_EXTENSIONS:
            return f"{shown(path)} is named as a caption file. Rename it."
        first = self._picture_by_text.setdefault(os.path.abspath(text), path)  # noqa: PTH100
        if os.path.abspath(first) == os.path.abspath(path):  # noqa: PTH100
            return None
        return f"{shown(path)} would have the caption file of {shown(first)}, {shown(text.name)}. Rename one of them."

    def write(self, pictures: Sequence[CaptionedPicture]) -> None:
        """Write the files of a batch."""
        for picture in pictures:
            if not self.is_done(picture.path):  # somebody may have written it meanwhile
                text = "\n".join(" ".join(caption.text.split()) for caption in picture.captions) + "\n"
                # Not synced: for each of many thousands that takes longer than the caption, and an empty file, which is
                # what a power cut can leave, is not taken for done.
                write_whole(picture.path.with_suffix(".txt"), text, is_synced=False)

    def settle(self) -> None:
        """Nothing is to be done: each file is whole."""

    def close(self) -> None:
        """Nothing is to be done."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
