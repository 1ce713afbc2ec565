"""Where the pictures that a manifest names lie, and that none of them lies outside the data.

A manifest can come from anyone: a name in it must not make a stranger's file part of the training data. Names are
looked for under each root in turn, then under the one folder directly below the last root that holds them. A path
counts as inside when what it resolves to, symbolic links followed, lies under a root.

Each folder that a name leads into is listed once, which is faster than to ask for a hundred thousand files one by one,
and finds `a.JPG` where a manifest says `a.jpg`: where no file has the very name, the letters of the extension may
differ in case and accents may be stored apart.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from systems.pixel_llm.data.folder import list_folder, quoted, shown
from systems.pixel_llm.errors import DatasetError

__all__ = ["PicturePlaces"]

_ABSOLUTE_NAME = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_NAMES_TO_TELL_A_FOLDER = 50

_MAX_PATH = 4096
_MAX_NAME = 255
"""No system has longer ones; to look for them takes time that grows with the square of their length."""


class PicturePlaces:
    """The folders that pictures may be in. `named_in`, the manifest, is for messages."""

    def __init__(self, *, roots: Sequence[Path], named_in: Path | None = None) -> None:
        self._roots = list(dict.fromkeys(str(root) for root in roots))
        self._real_roots = [os.path.realpath(root) for root in self._roots]
        self._folders: dict[str, _Folder | None] = {}
        self._folder_by_head: dict[tuple[str, str], _Folder | None] = {}
        self._named_in = named_in

    def find(self, names: Sequence[str]) -> dict[str, str]:
        """The path of every name whose picture is there.

        Raises:
            DatasetError: a name is absolute, cannot be a file name, or leaves the folder; or two files could be meant.
        """
        for name in names:
            self._check_name(name)
        found: dict[str, str] = {}
        missing = []
        for name in names:
            if len(name) > _MAX_PATH:
                continue
            path = self._find_under(self._roots, name)
            if path is None:
                missing.append(name)
            else:
                found[name] = path
        for name in missing:
            self._check_stays_inside(name)
        if missing and (folder := self._folder_below(missing)) is not None:
            for name in missing:
                if (path := self._find_under([folder], name)) is not None:
                    found[name] = path
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

    def _find_under(self, roots: Sequence[str], name: str) -> str | None:
        """The picture under the first root that has it and that its name does not leave."""
        for root in roots:
            folder, base = self._folder_of(root, name)
            if folder is None or (entry := folder.entry(base)) is None:
                continue
            path = folder.prefix + entry
            if folder.is_plain[entry] or self._leads_to_file(path):
                return path
        return None

    def _folder_of(self, root: str, name: str) -> tuple["_Folder | None", str]:
        """The folder of a name under a root, None where it lies outside, and the name in it."""
        head, _, base = name.rpartition("/")
        if base in (os.curdir, os.pardir) or (head and not base):
            place, base = os.path.split(os.path.normpath(os.path.join(root, name)))  # noqa: PTH118
            return self._folder_at(place), base
        # Many names share what stands before the last slash: it is put together once.
        key = (root, head)
        if key not in self._folder_by_head:
            place = os.path.normpath(os.path.join(root, head)) if head else root  # noqa: PTH118
            self._folder_by_head[key] = self._folder_at(place)
        return self._folder_by_head[key], base

    def _folder_at(self, place: str) -> "_Folder | None":
        if place not in self._folders:
            is_inside = self._is_inside(os.path.realpath(place or os.curdir))
            self._folders[place] = _Folder(place) if is_inside else None
        return self._folders[place]

    def _leads_to_file(self, path: str) -> bool:
        """Whether what is no plain file is a link to one."""
        try:
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                return False
            self.check_link(path)
            return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
        except OSError:  # gone meanwhile, or a link that leads to nothing
            return False

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

    def _check_name(self, name: str) -> None:
        if _ABSOLUTE_NAME.match(name):
            raise DatasetError(
                f"The name {quoted(name)} in {self._manifest()} is absolute. Write it relative to the data folder."
            )
        if "\0" in name or (not name.isascii() and _is_no_text(name)):
            raise DatasetError(
                f"The name {quoted(name)} in {self._manifest()} cannot be a file name. Correct it there."
            )

    def _check_stays_inside(self, name: str) -> None:
        if all(self._folder_of(root, name)[0] is None for root in self._roots):
            raise DatasetError(
                f"The name {quoted(name)} in {self._manifest()} leaves the data folder. Names must be relative and "
                f"stay in {' or '.join(map(shown, self._roots))}; put the picture there and correct the name."
            )

    def _manifest(self) -> str:
        return f"the manifest {shown(self._named_in)}" if self._named_in is not None else "the data folder"


class _Folder:
    """What is in a folder, looked at when it is first asked for; one that is not there holds nothing."""

    def __init__(self, path: str) -> None:
        self.prefix = os.path.join(path, "")  # noqa: PTH118  a Path for each name is slow
        self.is_plain: dict[str, bool] = {}
        """Name -> whether it is a file and neither a folder, nor a link, nor a pipe."""
        self._alike: dict[str, list[str]] | None = None
        try:
            with os.scandir(path or os.curdir) as entries:
                self.is_plain = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
        except PermissionError as error:
            raise DatasetError(
                f"The folder {shown(path)}, in which pictures are looked for, cannot be read: {error.strerror}. Check "
                "its permissions."
            ) from error
        except OSError:
            return  # not there, or no folder: nothing is in it

    def entry(self, name: str) -> str | None:
        """What has this name, or the one that is alike. Raises DatasetError where several are."""
        if name in self.is_plain:
            return name
        if len(name) > _MAX_NAME:
            return None
        if self._alike is None:
            self._alike = {}
            for each in self.is_plain:
                self._alike.setdefault(_normal(each), []).append(each)
        alike = self._alike.get(_normal(name), [])
        if len(alike) > 1:
            raise DatasetError(
                f"{shown(name)} could mean {' or '.join(map(shown, sorted(alike)))} in {shown(self.prefix)}. Write the "
                "very name of the file, or remove one of them."
            )
        return alike[0] if alike else None


def _normal(name: str) -> str:
    """What names that are taken for the same have in common."""
    stem, dot, extension = name.rpartition(".")
    normal = stem + dot + extension.lower()
    return normal if normal.isascii() else unicodedata.normalize("NFC", normal)


def _is_no_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False
