"""Checkpoints that keep the weights and give up the state of the optimizer, which is twice their size.

`drop_optimizer_states` does so with those of a run that are not its newest two, were not resumed from and not saved to
be kept. The folder is not changed: a whole one without the state is made beside it, of hard links to the files that
stay, and takes its place as a save would (`durable.py`), so that at no moment there is none to load.

What goes is the state of each parameter. The settings of the groups stay in `training_state.json`, learning rates among
them, so that a resume begins with fresh moments and the right rate. No torch.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from systems.pixel_llm.block_digests import BLOCK_BYTES
from systems.pixel_llm.checkpoint_folder import (
    OPTIMIZER_FILE,
    TRAINING_STATE_FILE,
    CheckpointRecord,
    read_manifest,
    verify_files,
    write_manifest,
)
from systems.pixel_llm.checkpoint_retention import BEST, RECENT, Reasons
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.folder_writer import FileDigest, folder_writer
from systems.pixel_llm.training.durable import durable_folder

__all__ = ["drop_optimizer_states"]

logger = logging.getLogger(__name__)


def drop_optimizer_states(records: Iterable[CheckpointRecord], reasons: Reasons) -> None:
    """Rewrite those of `records` that stay for their metric, or for want of one, alone.

    Where one cannot be rewritten, a warning is logged, and it stays as it is.
    """
    for record in records:
        why = set(reasons[record.name])
        if record.has_optimizer and why and why <= {BEST, RECENT}:
            try:
                _rewrite(record)
            except (OSError, CheckpointError) as error:
                logger.warning("The state of the optimizer stays in %s: %s", record.path, error)


def _rewrite(record: CheckpointRecord) -> None:
    manifest = read_manifest(record.path)
    files = manifest["files"]
    if any(isinstance(entry["sha256"], str) for entry in files.values()):  # version 1: the blocks are read for theirs
        verify_files(record.path, deep=True)
    state = _without_state(_read_sound(record.path / TRAINING_STATE_FILE, files))
    if state is None:
        return
    digests = {}
    with durable_folder(record.path.parent, record.name) as working, folder_writer(working) as writer:
        for name, entry in files.items():
            if name in (OPTIMIZER_FILE, TRAINING_STATE_FILE):
                continue
            _link(record.path / name, working / name)
            if isinstance(entry["sha256"], list):  # what it should be, so that a damaged file stays known as such
                digests[name] = FileDigest(entry["size"], tuple(entry["sha256"]))
        writer.write(TRAINING_STATE_FILE, state)
        write_manifest(
            working, record.name, sequence=record.sequence, epoch=record.epoch, metric=record.metric,
            keep=manifest["keep"], metric_name=record.metric_name, metric_mode=record.metric_mode, step=record.step,
            lineage=record.lineage, digests=digests | writer.digests,
        )  # fmt: skip


def _read_sound(path: Path, files: dict[str, Any]) -> bytes:
    """The file's bytes, which are those that were saved: what is derived from them will count as sound."""
    content = path.read_bytes()
    expected = files.get(path.name, {}).get("sha256")
    found: str | list[str] = hashlib.sha256(content).hexdigest()
    if isinstance(expected, list):
        blocks = (content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES))
        found = [hashlib.sha256(block).hexdigest() for block in blocks]
    if found != expected:
        raise CheckpointError(f"{path} is damaged: its sha256 differs from the manifest's.")
    return content


def _without_state(content: bytes) -> bytes | None:
    """`training_state.json` with the optimizer's groups alone; None where these hold tensors, and so need the file."""
    try:
        fields = json.loads(content)
        groups = fields["optimizer"]["state"]["param_groups"]
        fields["optimizer"]["state"] = {"state": {}, "param_groups": groups}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{TRAINING_STATE_FILE} is not what a save writes ({error!r}).") from error
    return None if '"$tensor"' in json.dumps(groups) else (json.dumps(fields, indent=1) + "\n").encode()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system that has no links
        shutil.copyfile(source, target)
