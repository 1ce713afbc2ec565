"""The one folder for what can be made again from the data: what a scan found, decoded pictures, unpacked tables.

Whoever keeps something there takes a subfolder of its own, makes it when it writes, and does without where it cannot.
"""

import os
import shutil
from pathlib import Path

from systems.pixel_llm.errors import ConfigError

__all__ = ["CACHE_VARIABLE", "cache_folder", "room_in"]

CACHE_VARIABLE = "PIXEL_LLM_CACHE"

_RESERVED_BYTES = 1 << 30
_RESERVED_SHARE = 0.05
"""Of a disk, what a cache leaves free: the lesser of the two."""


def cache_folder() -> Path:
    """`$PIXEL_LLM_CACHE`, else `$XDG_CACHE_HOME/pixel-llm`, else `~/.cache/pixel-llm`; absolute, perhaps not there yet.

    Raises:
        ConfigError: neither is set and the user has no home.
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():  # by its specification a relative one, or an empty one, is none
        return Path(shared, "pixel-llm")
    try:
        return Path.home() / ".cache" / "pixel-llm"
    except RuntimeError as error:
        raise ConfigError(
            f"There is no folder for a cache: the user has no home. Set {CACHE_VARIABLE} to a folder that may be "
            "written to."
        ) from error


def room_in(folder: Path) -> int:
    """Bytes that a cache may take of the disk of a folder that is there; below 0 where it should have taken less.

    Raises:
        OSError: the disk cannot be asked.
    """
    usage = shutil.disk_usage(folder)
    return usage.free - min(_RESERVED_BYTES, int(_RESERVED_SHARE * usage.total))
