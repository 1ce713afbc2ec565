"""`ScanCache`: what was seen in the pictures of a data folder, kept, so that the next look opens only new ones.

A picture is known by its absolute path, size and time of change. What is found is kept in memory as long as the object
lives, and on disk, one file for the data folders of a run, when it is saved: a line that says what the file is, with
the hash of all that follows, then a line of JSON a picture. A file that is damaged, foreign or of another version is no
cache, and a folder that cannot be written to costs no more than the next look's time.
"""

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import PIL

from systems.pixel_llm import __version__
from systems.pixel_llm.data.cache_folder import CACHE_VARIABLE, cache_folder
from systems.pixel_llm.data.duplicates import DIGEST_BYTES, file_digest
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.images import PictureFacts
from systems.pixel_llm.data.inspection_pictures import BadPicture, ScannedPicture, scan_pictures
from systems.pixel_llm.data.near_duplicates import COLOURS_BYTES, Fingerprint
from systems.pixel_llm.data.picture_path import PicturePath, content_place, content_stamp
from systems.pixel_llm.errors import ConfigError

__all__ = ["ScanCache"]

logger = logging.getLogger(__name__)

FORMAT = "pixel-llm scan"
VERSION = 3
"""To be raised with every change after which a scan may find something else in the same file, within a release too."""

MAX_BYTES = 1 << 30
"""Larger files are neither read nor written: some five million pictures."""

_SCANNED_AT_ONCE = 1024
"""Then what was found counts as known, also where Ctrl-C ends the look."""


@dataclass(slots=True)
class _Entry:
    """What is known of one path."""

    state: tuple[int, int] | None
    """Size in bytes, and time of change in nanoseconds, of what was looked at; None where there is no file."""
    scan: str | list[Any] | None = None
    """Why it is bad, or facts and fingerprint; None where only its digest is known."""
    digest: str | None = None
    is_lasting: bool = True
    """Whether another program run would find the same."""
    found: ScannedPicture | BadPicture | None = None
    """The scan as a record, made when it is first asked for."""


class ScanCache:
    """Known pictures. Used as a context manager, it is saved at the end, also of a look that was cut short.

    Args:
        *data: the data folders that they belong to; without one they are kept in memory alone.
    """

    def __init__(self, *data: str | os.PathLike[str]) -> None:
        self._data = "\0".join(map(os.path.realpath, data)) if data else None
        self._file = None if self._data is None else _file_of(self._data)
        self._entries = {} if self._file is None or self._data is None else _read(self._file, self._data)
        self._states: dict[str, tuple[int, int] | None] = {}
        self._is_changed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()

    def count_unknown(self, paths: Sequence[PicturePath]) -> int:
        """How many pictures `scan` would have to open."""
        return sum(self._known(path) is None for path in paths)

    def scan(
        self,
        paths: Sequence[PicturePath],
        *,
        num_workers: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[ScannedPicture | BadPicture]:
        """As `scan_pictures`, which looks at those that are not known; `on_progress` hears of these alone."""
        found = [self._known(path) for path in paths]
        unknown = [place for place, each in enumerate(found) if each is None]
        for start in range(0, len(unknown), _SCANNED_AT_ONCE):
            places = unknown[start : start + _SCANNED_AT_ONCE]
            scanned = scan_pictures(
                [paths[place] for place in places], num_workers=num_workers, on_progress=on_progress
            )
            for place, each in zip(places, scanned, strict=True):
                found[place] = each
                self._keep(each)
        return [each for each in found if each is not None]

    def digest(self, path: PicturePath) -> bytes:
        """As `file_digest`, which reads the file where its digest is not known."""
        name, state = self._identity(path)
        entry = self._entries.get(name)
        if entry is None or entry.state != state:
            entry = self._entries[name] = _Entry(state)
        if entry.digest is None:
            digest = file_digest(path)
            if len(digest) != DIGEST_BYTES:  # not readable now
                return digest
            entry.digest = digest.hex()
            self._is_changed = True
        return bytes.fromhex(entry.digest)

    def save(self) -> None:
        """Write what is new, without the pictures that are gone. That it cannot be written is logged, no error."""
        if self._file is None or self._data is None or not self._is_changed:
            return
        self._is_changed = False  # whatever comes of it: one attempt, one line
        lines = [
            json.dumps([name, entry.state, entry.scan, entry.digest], separators=(",", ":"))
            for name, entry in self._entries.items()
            if entry.is_lasting and self._is_there(name, entry.state)
        ]
        body = "".join(line + "\n" for line in lines).encode()
        head = json.dumps(_head(self._data, body)).encode() + b"\n"
        if len(head) + len(body) > MAX_BYTES:
            logger.info("What was seen in %d pictures is too much to keep.", len(lines))
            return
        try:
            _write_whole(self._file, head + body)
        except OSError as error:
            logger.warning(
                "What was seen in the pictures cannot be kept in %s (%s), so the next look opens them all again. Set "
                "%s to a folder that may be written to.",
                shown(self._file.parent), error.strerror, CACHE_VARIABLE,
            )  # fmt: skip

    def _is_there(self, name: str, state: tuple[int, int] | None) -> bool:
        if name in self._states:
            return state is not None and state == self._states[name]
        # Not asked for this time: of another list of the same pictures, say.
        return os.path.lexists(name) or os.path.lexists(name.rpartition("@")[0])

    def _identity(self, path: PicturePath) -> tuple[str, tuple[int, int] | None]:
        """By what a picture is known again: its place, and its state if there is a file.

        The state is that of the first time it is asked for: a file that changes later is new to the next object.
        """
        name = content_place(path)
        if name not in self._states:
            try:
                stamp = content_stamp(path)
                self._states[name] = (stamp.size, stamp.modified_ns)
            except (OSError, ValueError):
                self._states[name] = None
        return name, self._states[name]

    def _known(self, path: PicturePath) -> ScannedPicture | BadPicture | None:
        name, state = self._identity(path)
        entry = self._entries.get(name)
        if entry is None or entry.state != state:
            return None
        if entry.found is None or entry.found.path != path:
            entry.found = _decoded(entry, path)
        return entry.found

    def _keep(self, found: ScannedPicture | BadPicture) -> None:
        name, state = self._identity(found.path)
        if isinstance(found, BadPicture):
            self._entries[name] = _Entry(state, found.reason, is_lasting=found.is_lasting)
        else:
            facts, look = found.facts, found.fingerprint
            flags = [int(each) for each in (facts.is_turned, facts.is_16_bit, facts.is_animated)]
            scan = [facts.kind, facts.mode, facts.width, facts.height, *flags, look.hash, look.colours.hex()]
            self._entries[name] = _Entry(state, scan)
        self._is_changed = True


def _decoded(entry: _Entry, path: PicturePath) -> ScannedPicture | BadPicture | None:
    """What was found, None where it is not known or is not what this module writes."""
    if isinstance(entry.scan, str):
        return BadPicture(path, entry.scan, is_lasting=entry.is_lasting)
    try:
        kind, mode, width, height, is_turned, is_16_bit, is_animated, bits, colours = entry.scan or []
        look = Fingerprint(bits, bytes.fromhex(colours))
        is_sound = isinstance(kind, str) and isinstance(mode, str) and min(width, height) > 0 and 0 <= bits < 1 << 64
        is_sound = is_sound and len(look.colours) == COLOURS_BYTES
    except (TypeError, ValueError):
        return None
    facts = PictureFacts(
        kind=kind, mode=mode, width=width, height=height, is_turned=bool(is_turned), is_16_bit=bool(is_16_bit),
        is_animated=bool(is_animated),
    )  # fmt: skip
    return ScannedPicture(path, facts, look) if is_sound else None


def _file_of(data: str) -> Path | None:
    name = hashlib.blake2b(os.fsencode(data), digest_size=16).hexdigest()
    try:
        return cache_folder() / "scans" / f"{name}.jsonl"
    except ConfigError as error:
        logger.info("%s", error)
        return None


def _head(data: str, body: bytes) -> dict[str, Any]:
    """What the first line says. Another Pillow, or another release of this package, may find something else."""
    versions = {"version": VERSION, "program": __version__, "pillow": PIL.__version__}
    return {"format": FORMAT, **versions, "data": data, "digest": hashlib.blake2b(body, digest_size=16).hexdigest()}


def _read(file: Path, data: str) -> dict[str, _Entry]:
    """Absolute name -> what is known; nothing where the file is none, or not one to rely on."""
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:  # not blocking: it may be a pipe
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise ValueError(f"{status.st_size} bytes, or no file")
            head, _, body = opened.read(status.st_size).partition(b"\n")
        if json.loads(head) != _head(data, body):
            raise ValueError("another version, or damaged")
        return dict(_entry(line) for line in body.splitlines())
    except FileNotFoundError:
        return {}
    # A foreign file may hold anything: numbers of a million digits, brackets a million deep.
    except (OSError, ValueError, TypeError, RecursionError) as error:
        logger.info("%s is not used: %s.", shown(file), error)
        return {}


def _entry(line: bytes) -> tuple[str, _Entry]:
    name, (size, mtime_ns), scan, digest = json.loads(line)
    if not isinstance(name, str) or not isinstance(scan, str | list | None) or not isinstance(digest, str | None):
        raise ValueError("a line of another form")
    return name, _Entry((size, mtime_ns), scan, digest)


def _write_whole(file: Path, content: bytes) -> None:
    """The file whole or not at all, readable for its owner alone: the names of pictures are nobody else's business."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        os.replace(beside, file)  # noqa: PTH105
    except BaseException:
        os.unlink(beside)  # noqa: PTH108
        raise
