"""A checkpoint's folder, there whole or not at all: what `whole_folder.py` does for any folder, with the manifest.

`durable_folder` gives a folder to write in and puts it in place once its sizes are those of its manifest, and every
file of tensors has a sound header: what a reader would refuse is never put in place of what it reads. A checkpoint
of the same name is renamed aside for that moment (to `.old-<name>`, where readers still find it). `clear_leftovers`
puts right and removes what processes that died on the way have left. Knows the manifest, no torch.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from systems.pixel_llm.checkpoint_folder import is_checkpoint_folder, is_unreadable, verify_files
from systems.pixel_llm.errors import CheckpointError, NotSavedError
from systems.pixel_llm.tensor_file import read_header
from systems.pixel_llm.whole_folder import OLD_PREFIX, discard_folder, remove_stale, whole_folder

__all__ = ["clear_leftovers", "durable_folder"]

logger = logging.getLogger(__name__)


@contextmanager
def durable_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a folder to fill; when the block ends, it is `parent/name`, whole and on the disk, in place of an older one.

    The block must write the manifest as its last file. If it raises, or anything fails, `parent` is as it was before.

    Raises:
        CheckpointError: `parent/name` exists and is no checkpoint.
        NotSavedError: what was written does not match its manifest.
        OSError: the disk is full, read-only or failing.
    """
    with whole_folder(parent / name, refuse_foreign=_refuse_foreign, verify=_read_back) as working:
        yield working


def clear_leftovers(parent: Path) -> None:
    """Bring `parent` in order after processes that died in a save; the folders of living ones are left alone."""
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        try:
            if path.name.startswith(OLD_PREFIX) and is_checkpoint_folder(path):
                _settle_old(path, parent / path.name.removeprefix(OLD_PREFIX))
            else:
                remove_stale(path)
        except OSError as error:  # no reason not to save
            logger.warning("%s is left for later: %s", path, error)


def _read_back(folder: Path) -> None:
    try:
        verify_files(folder, deep=False)
        for path in folder.glob("*.safetensors"):
            read_header(path)
    except CheckpointError as error:
        raise NotSavedError(f"What was written is not what should have been: {error}") from error


def _settle_old(old: Path, final: Path) -> None:
    """A save died while it replaced `final`: keep the new one if it is whole, else bring back the old one.

    Where the disk does not let the new one be read, nothing is known of it: both stay.
    """
    if final.exists():
        try:
            verify_files(final, deep=True)
        except CheckpointError as error:
            if not is_checkpoint_folder(final):
                return
            if is_unreadable(error):
                logger.warning("%s is left beside the one that was to replace it: %s", old, error)
                return
            discard_folder(final)
        else:
            discard_folder(old)
            return
    old.replace(final)
    logger.warning("%s is restored: a save that was to replace it had not come to its end.", final)


def _refuse_foreign(final: Path) -> None:
    if os.path.lexists(final) and (final.is_symlink() or not is_checkpoint_folder(final)):
        raise CheckpointError(f"{final} exists and is no checkpoint. Move it away, or choose another checkpoint name.")
