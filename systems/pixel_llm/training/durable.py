"""Write a checkpoint's folder so that it is there whole or not at all, whatever is killed, full or cut off, and when.

`durable_folder` gives a hidden folder beside the final place to write in. Then every file and the folder are synced to
the disk, the sizes are read back, one rename puts it in place, and the parent is synced. A checkpoint of the same name
is first renamed aside (to `.old-<name>`, where readers still find it) and removed only after that. `discard_folder`
removes one by renaming it first, so that a half-removed checkpoint never bears its name. `clear_leftovers` puts right
and removes what processes that died on the way have left.

Hidden names carry host, process and a token of the process, so that a living writer's folder is left alone.
Knows the manifest, no torch.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from systems.pixel_llm.checkpoint_folder import OLD_PREFIX, is_checkpoint_folder, verify_files
from systems.pixel_llm.errors import CheckpointError

__all__ = ["clear_leftovers", "discard_folder", "durable_folder"]

logger = logging.getLogger(__name__)

_WORKING_PREFIX, _TRASH_PREFIX = ".tmp-", ".trash-"
_HIDDEN_NAME = re.compile(r"\.(?:tmp|trash)-.+-([0-9a-f]{8})-([0-9]+)-([0-9a-f]{8})-[0-9]+")
_MAX_AGE_SECONDS = 24 * 3600  # no save takes a day; a process id may be in use again by then
# The host's name is only told apart, never shown, and must be short: a hash of it.
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_TOKEN = secrets.token_hex(4)  # in a container, the next run often has the same process id
_counter = itertools.count()


@contextmanager
def durable_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a folder to fill; when the block ends, it is `parent/name`, whole and on the disk, in place of an older one.

    The block must write the manifest as its last file. If it raises, or anything fails, `parent` is as it was before.

    Raises:
        CheckpointError: `parent/name` exists and is no checkpoint, or what was written does not match its manifest.
        OSError: the disk is full, read-only or failing.
    """
    _refuse_foreign(parent / name)
    _make_folder(parent)
    working = parent / _hidden_name(_WORKING_PREFIX, name)
    working.mkdir()
    try:
        yield working
        for path in working.iterdir():
            _sync(path)
        _sync(working)
        verify_files(working, deep=False)
        _put_in_place(working, parent / name)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise


def discard_folder(folder: Path) -> None:
    """Remove `folder`. Where that fails, a warning is logged: no run shall end for it."""
    trash = folder.with_name(_hidden_name(_TRASH_PREFIX, folder.name.removeprefix(OLD_PREFIX)))
    try:
        folder.replace(trash)
        shutil.rmtree(trash)
    except OSError as error:
        logger.warning("%s could not be removed (%s). Remove it by hand.", folder, error)


def clear_leftovers(parent: Path) -> None:
    """Bring `parent` in order after processes that died in a save; the folders of living ones are left alone."""
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        if path.name.startswith(OLD_PREFIX) and is_checkpoint_folder(path):
            _settle_old(path, parent / path.name.removeprefix(OLD_PREFIX))
        elif _is_stale(path):
            shutil.rmtree(path, ignore_errors=True)


def _settle_old(old: Path, final: Path) -> None:
    """A save died while it replaced `final`: keep the new one if it is whole, else bring back the old one."""
    if final.exists():
        try:
            verify_files(final, deep=True)
        except CheckpointError:
            if not is_checkpoint_folder(final):
                return
            discard_folder(final)
        else:
            discard_folder(old)
            return
    old.replace(final)
    logger.warning("%s is restored: a save that was to replace it had not come to its end.", final)


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
        return token != _TOKEN
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


def _refuse_foreign(final: Path) -> None:
    if os.path.lexists(final) and (final.is_symlink() or not is_checkpoint_folder(final)):
        raise CheckpointError(f"{final} exists and is no checkpoint. Move it away, or choose another checkpoint name.")


def _put_in_place(working: Path, final: Path) -> None:
    old = final.with_name(OLD_PREFIX + final.name)
    _refuse_foreign(final)
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
