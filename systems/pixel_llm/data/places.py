"""Where the pictures that a manifest names lie, and that none of them lies outside the data.

A manifest can come from anyone: a name in it must not make a stranger's file part of the training data. Names are
looked for under each root in turn, then under the one folder directly below the last root that holds them. A path
counts as inside when what it resolves to, symbolic links followed, lies under a root.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from systems.pixel_llm.data.folder import list_folder, shown
from systems.pixel_llm.errors import DatasetError

__all__ = ["PicturePlaces"]

_ABSOLUTE_NAME = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_NAMES_TO_TELL_A_FOLDER = 50


class PicturePlaces:
    """The folders that pictures may be in. `named_in`, the manifest, is for messages."""

    def __init__(self, *, roots: Sequence[Path], named_in: Path | None = None) -> None:
        self._roots = list(dict.fromkeys(str(root) for root in roots))
        self._real_roots = [os.path.realpath(root) for root in self._roots]
        self._real_folders: dict[str, str] = {}
        self._named_in = named_in

    def find(self, names: Sequence[str]) -> dict[str, Path]:
        """The path of every name whose picture is there.

        Raises:
            DatasetError: a name is absolute, cannot be a file name, or leaves the folder.
        """
        for name in names:
            self._check_name(name)
        found = {name: path for name in names if (path := self._find_under(self._roots, name)) is not None}
        missing = [name for name in names if name not in found]
        for name in missing:
            self._check_stays_inside(name)
        if missing and (folder := self._folder_below(missing)) is not None:
            found |= {name: path for name in missing if (path := self._find_under([folder], name)) is not None}
        return found

    def check_link(self, path: str) -> None:
        """Refuse a symbolic link that leaves the folder.

        Raises:
            DatasetError: what it leads to lies outside.
        """
        if not self._is_inside(os.path.realpath(path)):
            raise DatasetError(
                f"{shown(path)} is a symbolic link that leads out of the data folder, to "
                f"{shown(os.path.realpath(path))}. Put the file itself into the folder."
            )

    def _find_under(self, roots: Sequence[str], name: str) -> Path | None:
        """The picture under the first root that has it and that its name does not leave."""
        for path in self._paths_inside(roots, name):
            if self._is_picture_file(path, name):
                return Path(path)
        return None

    def _paths_inside(self, roots: Sequence[str], name: str) -> Iterator[str]:
        for root in roots:
            path = os.path.normpath(os.path.join(root, name))  # noqa: PTH118  a Path for each name is slow
            if self._is_inside(self._real_folder(os.path.dirname(path))):  # noqa: PTH120
                yield path

    def _is_picture_file(self, path: str, name: str) -> bool:
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                self.check_link(path)
                mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise DatasetError(
                f"{shown(path)}, named in {self._manifest()} as {name!r}, cannot be looked at: {error.strerror}. "
                "Check the permissions of its folder."
            ) from error
        return stat.S_ISREG(mode)

    def _folder_below(self, names: Sequence[str]) -> str | None:
        """The one folder directly below the last root that holds some of these names, if it is one."""
        root = self._roots[-1]
        holding = []
        for subfolder in list_folder(root).subfolders:
            folder = os.path.join(root, subfolder)  # noqa: PTH118
            if any(self._find_under([folder], name) for name in names[:_NAMES_TO_TELL_A_FOLDER]):
                holding.append(folder)
        return holding[0] if len(holding) == 1 else None

    def _is_inside(self, real_path: str) -> bool:
        return any(real_path == root or real_path.startswith(root.rstrip(os.sep) + os.sep) for root in self._real_roots)

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder or os.curdir)
        return self._real_folders[folder]

    def _check_name(self, name: str) -> None:
        if _ABSOLUTE_NAME.match(name):
            raise DatasetError(
                f"The name {name!r} in {self._manifest()} is absolute. Write it relative to the data folder."
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            is_text = False
        else:
            is_text = True
        if not is_text or "\0" in name:
            raise DatasetError(f"The name {name!r} in {self._manifest()} cannot be a file name. Correct it there.")

    def _check_stays_inside(self, name: str) -> None:
        if not any(self._paths_inside(self._roots, name)):
            raise DatasetError(
                f"The name {name!r} in {self._manifest()} leaves the data folder. Names must be relative and stay in "
                f"{' or '.join(map(shown, self._roots))}; put the picture there and correct the name."
            )

    def _manifest(self) -> str:
        return f"the manifest {shown(self._named_in)}" if self._named_in is not None else "the data folder"
