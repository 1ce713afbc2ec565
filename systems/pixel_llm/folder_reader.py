"""The files of a model folder or a checkpoint as a reader takes them: bounded, plain, and the ones of the manifest.

`open_folder` gives a reader. Where the folder has a manifest, each file is compared with it as it is read, and what the
manifest does not list is not there. A header of tensors can be asked for before: so one looks whether a file fits
before its memory is taken.
Layer 1, no torch; the reading end of `folder_writer.py`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from systems.pixel_llm.checkpoint_folder import MANIFEST_FILE, read_manifest
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.plain_files import open_plain, read_plain
from systems.pixel_llm.tensor_file import TensorHeader, parse_header, read_header
from systems.pixel_llm.verified_files import FileEntry, new_memory, read_files

__all__ = ["FolderReader", "open_folder"]


class FolderReader:
    """Reads whole files of one folder; made by `open_folder`.

    Args:
        folder: where they are.
        entries: of its manifest, by name; None where it has none.
    """

    def __init__(self, folder: Path, entries: Mapping[str, FileEntry] | None) -> None:
        self.folder = folder
        self._entries = entries
        self._contents: dict[str, memoryview] = {}
        self._headers: dict[str, TensorHeader] = {}

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return os.path.lexists(self.folder / name) if self._entries is None else name in self._entries

    def verify(self, *, keep: Callable[[str, int], bool]) -> None:
        """Compare every byte of all files with the manifest, and hold on to those that `keep` (name, size) wants.

        Raises:
            CheckpointError: one of them is damaged.
        """
        entries = self._entries or {}
        self._contents = read_files(self.folder, entries, keep=lambda name: keep(name, entries[name]["size"]))

    def text(self, name: str, *, max_bytes: int, what: str) -> str:
        """A small file of text.

        Args:
            max_bytes: the most that a sound one has.
            what: what it should be, for the message.

        Raises:
            CheckpointError: it is missing, larger, damaged or no text.
        """
        path = self.folder / name
        try:
            if self._entries is None:
                return read_plain(path, max_bytes=max_bytes, what=what).decode()
            if (size := self._entry(name)["size"]) > max_bytes:
                raise CheckpointError(f"{path}: larger than any {what} ({size} bytes).")
            return str(self.content(name), "utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a readable {what} ({error}).") from error

    def header(self, name: str) -> TensorHeader:
        """The header of a file of tensors: of its content where that is read already, else from the disk as it is.

        Raises:
            CheckpointError: it is missing, or no sound file of tensors.
        """
        if name in self._headers:
            return self._headers[name]
        if name in self._contents:
            self._headers[name] = self._header_of(self._contents[name], name)
            return self._headers[name]
        path = self.folder / name
        try:
            self._entry(name)
            return read_header(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def tensor_file(self, name: str) -> tuple[TensorHeader, memoryview]:
        """The header and the whole content of a file of tensors, one as good as the other; content as `content` gives.

        Raises:
            CheckpointError: it is missing, damaged, or no sound file of tensors.
        """
        header = self.header(name)  # before memory is taken
        content = self.content(name)
        return (header if name in self._headers else self._header_of(content, name)), content

    def content(self, name: str) -> memoryview:
        """All of a file, in memory that can be written to and is held by whoever holds the result.

        Raises:
            CheckpointError: it is missing, damaged or cannot be read.
        """
        if name in self._contents:
            return self._contents[name]
        if self._entries is not None:
            return read_files(self.folder, {name: self._entry(name)}, keep=lambda each: True)[name]
        path = self.folder / name
        try:
            with open_plain(path) as file:
                content = new_memory(os.fstat(file.fileno()).st_size)
                rest = content
                while len(rest) and (num_read := file.readinto(rest)):
                    rest = rest[num_read:]
        except (OSError, MemoryError) as error:
            raise _unreadable(path, error) from error
        if len(rest):
            raise CheckpointError(f"{path}: it became shorter while it was read. Try again.")
        return content

    def _header_of(self, content: memoryview, name: str) -> TensorHeader:
        return parse_header(content, size=len(content), path=self.folder / name)

    def _entry(self, name: str) -> FileEntry:
        if self._entries is None:
            return {}
        if name not in self._entries:
            raise CheckpointError(f"{self.folder / name} is missing: its manifest lists no such file.")
        return self._entries[name]


def open_folder(folder: Path) -> FolderReader:
    """A reader of `folder`, by its manifest where it has one.

    Raises:
        CheckpointError: the manifest is damaged.
    """
    has_manifest = os.path.lexists(folder / MANIFEST_FILE)
    return FolderReader(folder, read_manifest(folder)["files"] if has_manifest else None)


def _unreadable(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(f"{path}: it cannot be read ({error}). Choose another.")
