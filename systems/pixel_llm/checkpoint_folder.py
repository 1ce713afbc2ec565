"""The folder of one checkpoint, as every reader sees it: its manifest, what a sound one is, and which there are.

A checkpoint `<checkpoint_dir>/<name>/` is a model folder plus training state plus `MANIFEST.json`, which lists every
file with its size and sha256 and was written last. `write_manifest` and `read_manifest` are the two ends of that file;
`verify_files` compares a folder with it; `scan_checkpoints` and `list_checkpoints` read what a directory of checkpoints
holds, since the disk is the only index there is. Which of them is best, and which is latest, is said by
`checkpoint_ranking.py`.

Nothing here trusts the folder: a name that leaves it, a link, a changed byte are all a CheckpointError. Reading never
changes the disk. Layer 1: no torch, so that captioning can choose a checkpoint without the training package.
"""

import hashlib
import json
import logging
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from systems.pixel_llm.block_digests import BLOCK_BYTES, block_threads, digest_blocks
from systems.pixel_llm.checkpoint_lineage import NO_LINEAGE, Lineage, is_valid_in_manifest
from systems.pixel_llm.errors import CheckpointError, ConfigError, nearest_name_hint
from systems.pixel_llm.folder_writer import FileDigest
from systems.pixel_llm.plain_files import read_plain
from systems.pixel_llm.verified_files import compare_files
from systems.pixel_llm.whole_folder import OLD_PREFIX

__all__ = [
    "AVERAGE_FILE", "FORMAT_VERSION", "MANIFEST_FILE", "MODEL_FILE", "OPTIMIZER_FILE", "TRAINING_STATE_FILE",
    "CheckpointRecord", "CheckpointScan", "MetricMode", "check_checkpoint_name", "checkpoint_folders",
    "find_checkpoint", "is_checkpoint_folder", "is_unreadable", "list_checkpoints", "read_manifest", "scan_checkpoints",
    "verify_files", "write_manifest",
]  # fmt: skip

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
"""1 had one sha256 a file; 2 has one a block of 8 MiB, so that they are computed side by side."""
MANIFEST_FILE = "MANIFEST.json"
MODEL_FILE = "model.safetensors"
AVERAGE_FILE = "average.safetensors"
"""Where there is one, it holds averages of the weights, which caption in their place."""
OPTIMIZER_FILE = "optimizer.safetensors"
TRAINING_STATE_FILE = "training_state.json"

MetricMode = Literal["min", "max"]

_FORMAT_NAME = "pixel-llm checkpoint"
_MAX_MANIFEST_BYTES = 16 << 20  # a real one has a kilobyte, and 70 bytes more for 8 MiB of a file
_CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What the manifest of one checkpoint says of it."""

    name: str
    path: Path
    epoch: int
    """Completed epochs."""
    metric: float | None
    """Always finite; None where there was none, or none that is a number."""
    sequence: int
    """Counts the saves into this directory: the higher, the later."""
    keep: bool
    """Never pruned: saved so, or copied or renamed by hand."""
    metric_name: str | None = None
    """What the metric is, such as val_loss or cider_d; None where nobody said."""
    metric_mode: MetricMode = "min"
    """Whether a lower metric is better, or a higher one."""
    step: int | None = None
    """Optimizer steps taken; None where nobody said."""
    lineage: Lineage = NO_LINEAGE
    """Which run it is of, and what that was resumed from."""
    is_copy: bool = False
    """Copied or renamed by hand."""
    num_bytes: int = 0
    """Of its files together, the manifest left out."""
    has_optimizer: bool = False
    """Whether it holds the state of an optimizer."""

    @classmethod
    def of(cls, name: str, path: Path, manifest: Mapping[str, Any]) -> "CheckpointRecord":
        """What `manifest`, as `read_manifest` gives it, says of the folder `path`, which is the checkpoint `name`."""
        is_copy = manifest["name"] != name
        return cls(
            name=name, path=path, epoch=manifest["epoch"], metric=manifest["metric"], sequence=manifest["sequence"],
            keep=manifest["keep"] or is_copy, metric_name=manifest.get("metric_name"),
            metric_mode=manifest.get("metric_mode", "min"), step=manifest.get("step"),
            lineage=Lineage.from_manifest(manifest), is_copy=is_copy,
            num_bytes=sum(entry["size"] for entry in manifest["files"].values()),
            has_optimizer=OPTIMIZER_FILE in manifest["files"],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CheckpointScan:
    """What a directory of checkpoints holds."""

    records: tuple[CheckpointRecord, ...]
    """Checkpoints with a sound manifest and files of the right sizes, oldest first."""
    damaged: dict[str, str]
    """name -> what is wrong with it."""
    last_sequence: int
    """Highest sequence number in any readable manifest; 0 where there is none."""


def check_checkpoint_name(name: str) -> None:
    """Make sure that `name` can be the folder of a checkpoint.

    Raises:
        ConfigError: it is not a plain folder name.
    """
    if not isinstance(name, str) or not _CHECKPOINT_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a checkpoint: expected 1 to 200 letters (a-z, A-Z), digits, '.', '_' or '-', not "
            "starting with '.'. Choose a name such as 'epoch_5'."
        )


# --- the manifest -----------------------------------------------------------------------------------------------------


def write_manifest(
    folder: Path,
    name: str,
    *,
    sequence: int,
    epoch: int,
    metric: float | None,
    keep: bool,
    metric_name: str | None = None,
    metric_mode: MetricMode = "min",
    step: int | None = None,
    lineage: Lineage = NO_LINEAGE,
    digests: Mapping[str, FileDigest] | None = None,
) -> dict[str, Any]:
    """Write `folder/MANIFEST.json` over all the files that `folder` holds now, and return its fields.

    `digests` are those of files that are known from writing them; the others are read for theirs.

    Raises:
        CheckpointError: `folder` holds something that is not a plain file with a plain name.
    """
    files = {}
    with block_threads() as pool:
        for path in sorted(folder.iterdir()):
            if not _FILE_NAME.fullmatch(path.name) or not stat.S_ISREG(path.lstat().st_mode):
                raise CheckpointError(f"{path}: a checkpoint holds plain files only. Write no folder or link there.")
            known = (digests or {}).get(path.name)
            if known is None:
                known = FileDigest(path.stat().st_size, tuple(digest_blocks(path, pool)))
            files[path.name] = {"size": known.size, "sha256": list(known.sha256)}
    fields = {
        "format": _FORMAT_NAME,
        "version": FORMAT_VERSION,
        "name": name,
        "sequence": sequence,
        "epoch": epoch,
        "step": step,
        "metric": metric,
        "metric_name": metric_name,
        "metric_mode": metric_mode,
        "keep": keep,
        **lineage.to_manifest(),
        "files": files,
    }
    (folder / MANIFEST_FILE).write_bytes(_manifest_bytes(fields))
    return fields


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of the checkpoint folder `path`: format, version, name, sequence, epoch, metric, keep, files.

    Raises:
        CheckpointError: it is missing, damaged, of a newer version, or lists files outside the folder.
    """
    manifest_path = path / MANIFEST_FILE
    try:
        content = read_plain(manifest_path, max_bytes=_MAX_MANIFEST_BYTES, what="manifest")
        fields = json.loads(content)
        digest = fields.pop("sha256", None) if isinstance(fields, dict) else None
        # The file must be what write_manifest would write, to the byte: it carries its own digest.
        is_unchanged = digest is not None and content == _manifest_bytes(fields)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is no whole checkpoint: {MANIFEST_FILE} is missing. Choose another checkpoint."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{manifest_path}: not readable ({error}). Choose another checkpoint.") from error
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT_NAME:
        raise CheckpointError(f"{manifest_path}: not the manifest of a {_FORMAT_NAME}. Choose another folder.")
    version = fields.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{manifest_path}: format version {version}, and this program reads up to {FORMAT_VERSION}. Update it."
        )
    if not is_unchanged:
        raise CheckpointError(f"{manifest_path}: damaged, it differs from its own digest. Choose another checkpoint.")
    if not _are_fields_valid(fields):
        raise CheckpointError(
            f"{manifest_path}: it has fields that no manifest has, or files outside its folder. Choose another "
            "checkpoint, and do not trust where this one came from."
        )
    return fields


def _manifest_bytes(fields: dict[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**fields, "sha256": digest}, indent=2) + "\n").encode()


def _are_fields_valid(fields: dict[str, Any]) -> bool:
    metric, files = fields.get("metric"), fields.get("files")
    return (
        all(type(fields.get(name)) is int for name in ("version", "sequence", "epoch"))
        and fields["version"] >= 1
        and isinstance(fields.get("name"), str)
        and isinstance(fields.get("keep"), bool)
        and isinstance(fields.get("metric_name"), str | None)
        and (fields.get("step") is None or type(fields["step"]) is int)
        and is_valid_in_manifest(fields)
        and fields.get("metric_mode", "min") in ("min", "max")
        and (metric is None or (type(metric) in (int, float) and math.isfinite(metric)))
        and isinstance(files, dict)
        and all(_is_file_entry_valid(name, entry) for name, entry in files.items())
    )


def _is_file_entry_valid(name: str, entry: Any) -> bool:
    # A plain name cannot leave the folder: no separator, no drive, no leading dot.
    return (
        _FILE_NAME.fullmatch(name) is not None
        and isinstance(entry, dict)
        and type(size := entry.get("size")) is int
        and size >= 0
        and _are_digests_valid(entry.get("sha256"), size=size)
    )


def _are_digests_valid(digests: Any, *, size: int) -> bool:
    if isinstance(digests, list):
        return len(digests) == -(-size // BLOCK_BYTES) and all(_is_sha256(each) for each in digests)
    return _is_sha256(digests)  # of the whole file, as version 1 has it


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


# --- is a checkpoint sound? -------------------------------------------------------------------------------------------


def verify_files(path: Path, *, deep: bool) -> None:
    """Compare the files of the checkpoint folder `path` with its manifest: their sizes and, where `deep`, every byte.

    Raises:
        CheckpointError: the manifest is unusable, or a file is missing, a link, of another size or changed.
    """
    compare_files(path, read_manifest(path)["files"], deep=deep)


def is_unreadable(error: CheckpointError) -> bool:
    """Whether an error of `read_manifest` or `verify_files` is one of reading, and tells nothing of what is there."""
    return isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError)


# --- which checkpoints are there? -------------------------------------------------------------------------------------


def list_checkpoints(checkpoint_dir: Path) -> list[CheckpointRecord]:
    """The checkpoints in `checkpoint_dir`, oldest first; a warning in the log names each damaged one left out."""
    scan = scan_checkpoints(checkpoint_dir)
    for reason in scan.damaged.values():
        logger.warning("Checkpoint left out: %s", reason)
    return list(scan.records)


def scan_checkpoints(checkpoint_dir: Path) -> CheckpointScan:
    """Read the manifests and file sizes of all checkpoints in `checkpoint_dir`, which may be missing.

    Links and folders that are no checkpoints are passed over.
    """
    records: list[CheckpointRecord] = []
    damaged: dict[str, str] = {}
    last_sequence = 0
    for name, path in checkpoint_folders(checkpoint_dir):
        try:
            manifest = _read_persistently(path)
            last_sequence = max(last_sequence, manifest["sequence"])
            compare_files(path, manifest["files"], deep=False)
        except CheckpointError as error:
            damaged[name] = str(error)
            continue
        records.append(CheckpointRecord.of(name, path, manifest))
    records.sort(key=lambda record: (record.sequence, record.name))
    return CheckpointScan(records=tuple(records), damaged=damaged, last_sequence=last_sequence)


def _read_persistently(path: Path) -> dict[str, Any]:
    """Its manifest; a read that fails is tried once more, since what is passed over has no say in the next sequence."""
    try:
        return read_manifest(path)
    except CheckpointError as error:
        if not is_unreadable(error):
            raise
    return read_manifest(path)


def find_checkpoint(checkpoint_dir: Path, name: str) -> Path:
    """The folder of the checkpoint `name`, damaged or not.

    Raises:
        ConfigError: `name` is not a plain folder name.
        CheckpointError: there is none, or a link; the message names those that there are.
    """
    check_checkpoint_name(name)
    for path in (checkpoint_dir / name, checkpoint_dir / (OLD_PREFIX + name)):
        if path.is_symlink():
            raise CheckpointError(f"{path} is a link. Name the checkpoint that it leads to, in its own folder.")
        if is_checkpoint_folder(path):
            return path
    known = [each for each, _ in checkpoint_folders(checkpoint_dir)]
    hint = nearest_name_hint(name, known) if known else "It holds no checkpoint at all: check the folder's name."
    raise CheckpointError(f"{checkpoint_dir} has no checkpoint {name!r}. {hint}")


def is_checkpoint_folder(path: Path) -> bool:
    """Whether `path` is a checkpoint, damaged or not, rather than a folder of something else.

    One that the disk does not let be read counts, so that whoever lists checkpoints says so.
    """
    try:
        return (path / MANIFEST_FILE).exists() or (path / TRAINING_STATE_FILE).exists()
    except PermissionError:  # a folder that is not ours to look into
        return False
    except OSError:
        return True


def checkpoint_folders(checkpoint_dir: Path) -> list[tuple[str, Path]]:
    """(name, path) of each checkpoint in `checkpoint_dir`, damaged or not, by name; links are passed over.

    One caught in the middle of being replaced counts under its own name.

    Raises:
        CheckpointError: the directory cannot be read.
    """
    try:
        paths = list(checkpoint_dir.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{checkpoint_dir} cannot be read ({error}). Name a folder of checkpoints.") from error
    found = {}
    for path in paths:
        name = path.name.removeprefix(OLD_PREFIX)
        is_replaced = name != path.name and _is_there(checkpoint_dir / name)
        if name.startswith(".") or is_replaced or _is_link(path) or not is_checkpoint_folder(path):
            continue
        found[name] = path
    return sorted(found.items())


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it is, and the disk does not tell what it is
        return True


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False
