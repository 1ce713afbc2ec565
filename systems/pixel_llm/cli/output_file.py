"""Files that a command writes over a long time: opened by one process alone, whole at any time, refused if not ours.

Errors name the file as what follows --output, and say what to do.
"""

import os
import zlib
from contextlib import suppress
from io import FileIO
from pathlib import Path

from systems.pixel_llm.data.folder import PICTURE_EXTENSIONS, shown
from systems.pixel_llm.errors import ConfigError, DatasetError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["content_of", "foreign", "opened_alone", "refuse_odd_output", "unwritable", "write_whole"]

HIDDEN_SUFFIX = ".pixel-llm-tmp"


def write_whole(path: Path, text: str, *, is_synced: bool) -> None:
    """Write a file so that it is there whole or as it was before. `is_synced`: even if the power fails right after.

    Raises:
        DatasetError: it cannot be written.
    """
    # Not the name with something added: it may be as long as a name can be. Always the same one, so that what a kill
    # leaves is taken up by the next call.
    beside = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}{HIDDEN_SUFFIX}")
    try:
        with beside.open("wb") as file:
            file.write(text.encode(errors="backslashreplace"))
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def content_of(file: Path) -> bytes:
    """What a file holds, nothing where there is none."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DatasetError(f"--output {shown(file)} cannot be read: {error.strerror}.") from error


def opened_alone(file: Path) -> FileIO:
    """Open a file to append to, for this process alone."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("ab", buffering=0)
    except OSError as error:
        raise unwritable(file, error) from error
    if fcntl is not None:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            opened.close()
            raise DatasetError(
                f"--output {shown(file)} is being written by another process. Wait for it, or name another file."
            ) from error
        except OSError:
            return opened  # a network disk that knows no locks
    return opened


def refuse_odd_output(file: Path) -> None:
    """Refuse what no captions are written to: a folder, a picture, a pipe."""
    if file.is_dir():
        raise ConfigError(f"--output {shown(file)} is a folder. Name a file to write, such as {shown(file)}/captions.")
    if file.suffix.lower() in PICTURE_EXTENSIONS:
        raise ConfigError(f"--output {shown(file)} is named as a picture. Name the file to write captions to.")
    if file.exists() and not file.is_file():
        raise ConfigError(f"--output {shown(file)} is no regular file. Leave --output out to write to stdout.")


def foreign(file: Path, reason: object) -> DatasetError:
    """The error for a file of another kind."""
    return DatasetError(
        f"--output {shown(file)} holds something else than captions in the form of --as: {reason}. It is left as it "
        "is. Name another file, or the --as with which it was begun; or remove it."
    )


def unwritable(file: Path, error: OSError) -> DatasetError:
    """The error for a full disk and the like."""
    return DatasetError(
        f"{shown(file)} cannot be written: {error.strerror or error}. What was captioned before this is kept. Put that "
        "right and type the same command again: it goes on from there."
    )
