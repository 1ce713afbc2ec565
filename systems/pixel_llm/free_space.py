"""Room on a disk: is there enough before something large is written, and was it room that an error spoke of?

Layer 1, standard library only.
"""

import errno
import os
import shutil
from pathlib import Path

__all__ = ["check_free_space", "is_out_of_space"]

_MARGIN = 1.2
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def check_free_space(folder: Path, num_bytes: int) -> None:
    """Make sure that so many bytes, and a fifth more, fit on the disk of `folder`, which need not be there yet.

    Raises:
        OSError: they do not (ENOSPC, as when the disk is full); the message names both numbers.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    needed = int(_MARGIN * num_bytes)
    if usage.total and usage.free < needed:  # some network file systems tell neither number
        raise OSError(
            errno.ENOSPC,
            f"{os.strerror(errno.ENOSPC)}: {needed / 1e6:.1f} MB are needed, which is {_MARGIN} times the size of what "
            f"is to be written, and {usage.free / 1e6:.1f} MB are free",
        )


def is_out_of_space(error: BaseException | None) -> bool:
    """Whether `error` says that the disk, or the share of it that the user may fill, is full."""
    return isinstance(error, OSError) and error.errno in _FULL
