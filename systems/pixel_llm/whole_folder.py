"""A folder that is there whole or not at all, whatever is killed, full or cut off, and when.

`whole_folder` gives a hidden folder beside the final place to write in. Then every file and the folder are synced to
the disk, the caller looks at what was written, one rename puts it in place, and the parent is synced. A folder that is
there already is first renamed aside, and removed only after that. `discard_folder` removes one by renaming it first, so
that a half-removed folder never bears its name; `move_folders` moves some elsewhere. `remove_stale` removes what
processes that died on the way have left.

Hidden names carry host, process and a token of the process, so that a living writer's folder is left alone.
Layer 1: checkpoints and exported models are written this way.
"""

import itertools
import logging
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["OLD_PREFIX", "discard_folder", "move_folders", "remove_stale", "whole_folder"]

logger = logging.getLogger(__name__)

OLD_PREFIX = ".old-"
"""A folder that is being replaced waits under this prefix; where its name is missing, it is the one."""

_WORKING_PREFIX, _TRASH_PREFIX = ".tmp-", ".trash-"
_HIDDEN_NAME = re.compile(r"\.(?:tmp|trash)-.+-([0-9a-f]{8})-([0-9]+)-([0-9a-f]{8})-[0-9]+")
_MAX_AGE_SECONDS = 24 * 3600  # no save takes a day; a process id may be in use again by then
# The host's name is only told apart, never shown, and must be short: a hash of it.
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_TOKEN = secrets.token_hex(4)  # in a container, the next run often has the same process id
_counter = itertools.count()


@contextmanager
def whole_folder(
    final: Path, *, refuse_foreign: Callable[[Path], None], verify: Callable[[Path], None]
) -> Iterator[Path]:
    """Give a folder to fill; when the block ends, it is `final`, whole and on the disk, in place of an older one.

    If the block raises, or anything fails, the parent of `final` is as it was before.

    Args:
        final: where the folder will be; those above it are made.
        refuse_foreign: raises where what is at `final` may not be replaced; asked at the start and before the rename.
        verify: raises where the written folder, which it is given, is not as it should be.

    Raises:
        OSError: the disk is full, read-only or failing.
    """
    refuse_foreign(final)
    _make_folder(final.parent)
    working = final.with_name(_hidden_name(_WORKING_PREFIX, final.name))
    working.mkdir()
    try:
        yield working
        for path in working.iterdir():
            _sync(path)
        _sync(working)
        verify(working)
        refuse_foreign(final)
        _put_in_place(working, final)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise


def discard_folder(folder: Path) -> None:
    """Remove `folder`. Where that fails, a warning is logged: no run shall end for it."""
    trash = folder.with_name(_hidden_name(_TRASH_PREFIX, folder.name.removeprefix(OLD_PREFIX)))
    try:
        folder.replace(trash)
        _sync(folder.parent)  # else a power cut may bring the name back without some of its files
        shutil.rmtree(trash)
    except OSError as error:
        logger.warning("%s could not be removed (%s). Remove it by hand.", folder, error)


def move_folders(folders: Sequence[Path], target: Path) -> None:
    """Move `folders`, all of one parent, into the folder `target`, which is made; each is in one place at any time.

    Raises:
        OSError: one cannot be moved; those before it are.
    """
    _make_folder(target)
    for folder in folders:
        folder.replace(target / folder.name)
    _sync(target)
    for parent in {folder.parent for folder in folders}:
        _sync(parent)


def remove_stale(path: Path) -> None:
    """Remove `path` if it is a hidden folder of a writer that died; that of a living one, and all else, is left."""
    if _is_stale(path):
        shutil.rmtree(path, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    match = _HIDDEN_NAME.fullmatch(path.name)
    if match is None or path.is_symlink():
        return False
    host, process_id, token = match[1], int(match[2]), match[3]
    try:
        if time.time() - path.stat().st_mtime > _MAX_AGE_SECONDS:
            return True
    except FileNotFoundError:  # its writer has just finished
        return False
    if host != _HOST:
        return False
    if process_id == os.getpid():
        return token != _TOKEN or path.name.startswith(_TRASH_PREFIX)  # a removal of our own that failed
    return not _is_process_alive(process_id)


def _is_process_alive(process_id: int) -> bool:
    if os.name != "posix":  # elsewhere os.kill with 0 is no question but a signal
        return True
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _hidden_name(prefix: str, name: str) -> str:
    return f"{prefix}{name}-{_HOST}-{os.getpid()}-{_TOKEN}-{next(_counter)}"


def _make_folder(folder: Path) -> None:
    """Make `folder` and those above it, each entry synced."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _put_in_place(working: Path, final: Path) -> None:
    old = final.with_name(OLD_PREFIX + final.name)
    has_old = final.exists()
    if has_old:
        final.replace(old)
    try:
        working.replace(final)
    except BaseException:
        if has_old and not final.exists():
            old.replace(final)
        raise
    _sync(final.parent)
    if has_old:
        discard_folder(old)


def _sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's entries, from the operating system's memory to the disk."""
    if os.name != "posix" and path.is_dir():  # only there can a folder be opened
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
