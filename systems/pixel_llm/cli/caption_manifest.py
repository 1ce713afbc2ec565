"""`--as manifest`: a JSON object, picture -> caption, as `train` reads it.

Such a file cannot be appended to. What is new is appended to FILE.partial, and put together with FILE at the end and
whenever captioning rests; FILE is whole at any time. What `train` would refuse is refused here, picture by picture, so
that one odd name does not spoil the file.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from systems.pixel_llm.cli.caption_rows import JsonRows, caption_or_list
from systems.pixel_llm.cli.caption_writers import AppendedRows
from systems.pixel_llm.cli.output_file import content_of, foreign, refuse_odd_output, write_whole
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.inference.picture_files import CaptionedPicture

__all__ = ["Manifest"]


class Manifest:
    """A JSON object, picture -> caption or list of captions, as `train` reads it: names are relative to its folder.

    Such a file cannot be appended to. What is new is appended to FILE.partial, and `settle` puts both together; FILE is
    whole at any time.
    """

    is_kept = True

    def __init__(self, file: Path, *, is_list: bool, overwrite: bool = False) -> None:
        """Look at what `file` holds. `is_list`: several captions a picture were asked for.

        Raises:
            DatasetError: it holds something else, cannot be read or written, or another process is writing to it.
        """
        refuse_odd_output(file)
        self._path, self._is_list = file, is_list
        self._folder = os.path.abspath(file.parent)  # noqa: PTH100  it does not follow links
        self._real_folder = os.path.realpath(file.parent)
        captions = _manifest_content(file)
        self._form = JsonRows(is_list=is_list)
        journal = file.with_name(file.name + ".partial")
        self._journal = AppendedRows(journal, self._form, overwrite=overwrite)
        for record in self._form.records(content_of(journal).decode()):
            captions[record["image"]] = record["caption"]
        self._captions = {} if overwrite else captions
        self._is_settled = not (captions and not overwrite and content_of(journal))

    def is_done(self, path: Path) -> bool:
        """Whether the picture has an entry."""
        return self._name(path) in self._captions

    def objection(self, path: Path) -> str | None:
        """Why `train` would refuse the name or the place of this picture."""
        name = self._name(path)
        if name.startswith("../") or os.path.isabs(name):  # noqa: PTH117
            where = f"lies outside {shown(self._folder)}, and a manifest names what is in its own folder and below"
            return f"{shown(path)} {where}. Choose another --output, in a folder above the pictures."
        if not _is_text(name):
            return f"{shown(path)} has a name that is no text, which a manifest cannot hold. Rename the file."
        if name.startswith("\\") or name[1:3] in (":\\", ":/"):
            return f"{shown(path)} has a name that a manifest would take for an absolute path. Rename the file."
        real = os.path.realpath(path)
        if not real.startswith(self._real_folder.rstrip(os.sep) + os.sep):
            return (
                f"{shown(path)} is a link that leads out of {shown(self._folder)}, which no manifest may name. Put the "
                "file itself there."
            )
        return None

    def write(self, pictures: Sequence[CaptionedPicture]) -> None:
        """Append a batch to FILE.partial."""
        self._journal.append("".join(self._form.row(self._name(each.path), each) for each in pictures))
        self._captions |= {self._name(each.path): caption_or_list(each, is_list=self._is_list) for each in pictures}
        self._is_settled = False

    def settle(self) -> None:
        """Write FILE anew, whole, and empty FILE.partial."""
        if not self._is_settled:
            write_whole(self._path, json.dumps(self._captions, ensure_ascii=False, indent=1) + "\n", is_synced=True)
            self._journal.empty()
            self._is_settled = True

    def close(self) -> None:
        """End writing: FILE.partial is removed where FILE has all that was in it."""
        self._journal.close()

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(os.path.abspath(path), self._folder)).as_posix()  # noqa: PTH100


def _manifest_content(file: Path) -> dict[str, Any]:
    data = content_of(file)
    if not data.strip():
        return {}
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise foreign(file, "it is not JSON") from error
    if not isinstance(content, dict) or not all(_is_caption(value) for value in content.values()):
        raise foreign(file, "it is not an object of names and captions")
    return content


def _is_caption(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
