"""`CheckpointManager`: a directory of checkpoints that survives kills, full disks and damaged files.

`save` writes one folder durably (`durable.py`) and then prunes; `load`, `load_best` and `load_latest` verify every
byte, check everything against model and optimizer, and only then change them. What there is, which is best and which
is latest is read from the disk each time (`checkpoint_folder.py`), so folders may be copied or deleted by hand between.
What stands in the files is the business of `checkpoint_contents.py`; `docs/checkpoint_format.md` describes it.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from systems.pixel_llm.checkpoint_folder import (
    CheckpointRecord,
    MetricMode,
    best_record,
    check_checkpoint_name,
    find_checkpoint,
    is_unreadable,
    latest_record,
    list_checkpoints,
    rank_records,
    read_manifest,
    scan_checkpoints,
    verify_files,
    write_manifest,
)
from systems.pixel_llm.errors import CheckpointError, ConfigError, NotSavedError
from systems.pixel_llm.folder_writer import folder_writer
from systems.pixel_llm.free_space import check_free_space
from systems.pixel_llm.training.checkpoint_contents import (
    num_bytes_of,
    prepare_model,
    prepare_optimizer,
    read_average,
    read_training_state,
    unwrapped,
    write_average,
    write_model,
    write_training_state,
)
from systems.pixel_llm.training.durable import clear_leftovers, durable_folder
from systems.pixel_llm.whole_folder import discard_folder

__all__ = ["CheckpointManager"]

logger = logging.getLogger(__name__)

_NUM_NEWEST_KEPT = 2  # should the newest turn out damaged, there is one before it

Records = list[CheckpointRecord]


class CheckpointManager:
    """Saves, finds, loads and prunes checkpoints of any `nn.Module`, one folder each in `checkpoint_dir`.

    Args:
        checkpoint_dir: the directory; made at the first save.
        max_checkpoints: how many of the best to keep; where fewer have a metric, the newest fill the places. Besides
            them the newest two, those saved with `keep=True` and those given to `protect` are never pruned.
        metric_mode: "min" where a lower metric is better, "max" where a higher one is.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(self, checkpoint_dir: str | Path, max_checkpoints: int = 3, metric_mode: str = "min") -> None:
        if max_checkpoints < 1:
            raise ConfigError(f"max_checkpoints must be at least 1, not {max_checkpoints}.")
        rank_records([], metric_mode)
        self.checkpoint_dir = Path(checkpoint_dir)
        self.max_checkpoints = max_checkpoints
        self.metric_mode: MetricMode = "max" if metric_mode == "max" else "min"
        self._protected: set[str] = set()

    # --- saving -------------------------------------------------------------------------------------------------------

    def save(
        self,
        checkpoint_name: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        epoch: int = 0,
        metric: float | Tensor | None = None,
        *,
        metric_name: str | None = None,
        keep: bool = False,
        training_state: dict[str, Any] | None = None,
        average: Mapping[str, Tensor] | None = None,
    ) -> Path:
        """Save a checkpoint, on the disk when this returns, and prune others.

        A checkpoint of the same name is replaced, without a moment in which neither can be loaded.

        Args:
            checkpoint_name: the folder's name: letters, digits, '.', '_' and '-'.
            model: wrappers of torch.compile and data parallelism are seen through.
            optimizer: its state is saved too.
            epoch: completed epochs.
            metric: what best is judged by; a number that is not finite counts as none.
            metric_name: what that number is; best is looked for among those of the same name as the newest.
            keep: never prune this one.
            training_state: what else a resume needs: dicts, lists, tuples, numbers, strings.
            average: averaged weights by the names of the parameters, which will caption in place of the weights.

        Returns:
            The checkpoint's folder.

        Raises:
            ConfigError: the name or the metric cannot be used.
            NotSavedError: it could not be written, as on a disk that is full, or has less room than 1.2 times what it
                takes. Earlier checkpoints are as they were.
            CheckpointError: it holds what cannot be saved, or the folder of this name is no checkpoint.
        """
        check_checkpoint_name(checkpoint_name)
        metric = _finite_or_none(metric)
        model, folder = unwrapped(model), self.checkpoint_dir
        try:
            clear_leftovers(folder)
            check_free_space(folder, num_bytes_of(model, optimizer, average))
            sequence = scan_checkpoints(folder).last_sequence + 1
            with durable_folder(folder, checkpoint_name) as working, folder_writer(working) as writer:
                write_model(model, writer)
                if average is not None:
                    write_average(average, writer)
                write_training_state(writer, model, optimizer, training_state=training_state)
                write_manifest(
                    working, checkpoint_name, sequence=sequence, epoch=int(epoch), metric=metric, keep=keep,
                    metric_name=metric_name, metric_mode=self.metric_mode, digests=writer.digests,
                )  # fmt: skip
        except (OSError, SafetensorError, CheckpointError) as error:
            if isinstance(error, CheckpointError) and not is_unreadable(error):
                raise
            raise NotSavedError(
                f"{folder / checkpoint_name} could not be saved ({error}). Earlier checkpoints are untouched. Make "
                "room or make the folder writable, and save again."
            ) from error
        try:
            self._prune()
        except (CheckpointError, OSError) as error:  # it is saved: no reason to say otherwise
            logger.warning("No older checkpoint was removed this time: %s", error)
        return folder / checkpoint_name

    def protect(self, checkpoint_name: str) -> None:
        """Never prune this checkpoint while this manager lives: the one a run was resumed from."""
        self._protected.add(checkpoint_name)

    def _prune(self) -> None:
        records = scan_checkpoints(self.checkpoint_dir).records
        ranked = rank_records(records, self.metric_mode)
        ranked += [record for record in reversed(records) if record not in ranked]
        kept = self._protected | {record.name for record in records if record.keep}
        kept |= {record.name for record in (*ranked[: self.max_checkpoints], *records[-_NUM_NEWEST_KEPT:])}
        for record in records:
            if record.name not in kept:
                discard_folder(record.path)

    # --- loading ------------------------------------------------------------------------------------------------------

    def load(
        self,
        checkpoint_name: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | str | None = None,
    ) -> dict[str, Any]:
        """Load the checkpoint of this name into `model` and, where given, `optimizer`, in place.

        Nothing of either is changed where the checkpoint is damaged or does not fit.

        Args:
            checkpoint_name: the folder's name in `checkpoint_dir`.
            model: is not moved; wrappers are seen through.
            optimizer: over the model's parameters, made as the saved one was. None loads the weights alone.
            device: where the weights are read to on their way into the model; the CPU if None.

        Returns:
            `{"name", "path", "epoch", "metric", "sequence", "training_state", "average", "skipped"}`: `training_state`
            and `average` are what `save` was given, `skipped` the names of damaged checkpoints passed over (here none).

        Raises:
            ConfigError: the name or the device cannot be used.
            CheckpointError: the checkpoint is missing, damaged, or does not fit; the message tells how.
        """
        path = find_checkpoint(self.checkpoint_dir, checkpoint_name)
        try:
            verify_files(path, deep=True)
        except CheckpointError as error:
            raise CheckpointError(f"{error} load_latest() takes the newest good one.") from error
        manifest = read_manifest(path)
        record = CheckpointRecord(
            name=checkpoint_name, path=path, epoch=manifest["epoch"], metric=manifest["metric"],
            sequence=manifest["sequence"], keep=manifest["keep"],
            metric_name=manifest.get("metric_name"), metric_mode=manifest.get("metric_mode", "min"),
        )  # fmt: skip
        return self._apply(record, model, optimizer, device, skipped=[])

    def load_best(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | str | None = None,
    ) -> dict[str, Any]:
        """Load the good checkpoint with the best metric; as `load`, but passes over damaged ones with a warning.

        Raises:
            CheckpointError: no good checkpoint has a metric, or the best one does not fit.
        """
        scan = scan_checkpoints(self.checkpoint_dir)
        ranked = rank_records(scan.records, self.metric_mode)
        if scan.records and not ranked:
            raise CheckpointError(
                f"No checkpoint in {self.checkpoint_dir} has a metric, so none is best. Use load_latest(), or pass "
                "metric= to save()."
            )
        return self._load_first_good(ranked, scan.damaged, model, optimizer, device)

    def load_latest(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | str | None = None,
    ) -> dict[str, Any]:
        """Load the good checkpoint saved last; as `load`, but passes over damaged ones with a warning.

        Raises:
            CheckpointError: there is no good checkpoint, or the latest one does not fit.
        """
        scan = scan_checkpoints(self.checkpoint_dir)
        return self._load_first_good(reversed(scan.records), scan.damaged, model, optimizer, device)

    def _load_first_good(
        self,
        records: Iterable[CheckpointRecord],
        damaged: dict[str, str],
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        device: torch.device | str | None,
    ) -> dict[str, Any]:
        for reason in damaged.values():
            logger.warning("Checkpoint passed over: %s", reason)
        skipped = list(damaged)
        for record in records:
            try:
                verify_files(record.path, deep=True)
            except CheckpointError as error:
                logger.warning("Checkpoint passed over: %s", error)
                skipped.append(record.name)
                continue
            return self._apply(record, model, optimizer, device, skipped=skipped)
        found = f"all it holds are damaged: {', '.join(skipped)}" if skipped else "it holds none"
        raise CheckpointError(
            f"No good checkpoint in {self.checkpoint_dir}: {found}. Check the folder's name, or start a new run."
        )

    def _apply(
        self,
        record: CheckpointRecord,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        device: torch.device | str | None,
        *,
        skipped: list[str],
    ) -> dict[str, Any]:
        """Check all that is in a verified folder, then let model and optimizer take it."""
        model = unwrapped(model)
        training_state, saved_optimizer = read_training_state(record.path)
        average = read_average(record.path)
        actions = [prepare_model(model, record.path, _usable_device(device))]
        if optimizer is not None:
            actions.append(prepare_optimizer(optimizer, model, record.path, saved_optimizer))
        for apply in actions:
            apply()
        return {
            "name": record.name,
            "path": record.path,
            "epoch": record.epoch,
            "metric": record.metric,
            "sequence": record.sequence,
            "training_state": training_state,
            "average": average,
            "skipped": skipped,
        }

    # --- what is there ------------------------------------------------------------------------------------------------

    def best(self) -> CheckpointRecord | None:
        """The checkpoint with the best metric, or None."""
        return best_record(list_checkpoints(self.checkpoint_dir), self.metric_mode)

    def latest(self) -> CheckpointRecord | None:
        """The checkpoint saved last, or None."""
        return latest_record(list_checkpoints(self.checkpoint_dir))

    def list(self) -> Records:
        """All checkpoints that are not evidently damaged, oldest first."""
        return list_checkpoints(self.checkpoint_dir)


def _finite_or_none(metric: float | Tensor | None) -> float | None:
    if metric is None:
        return None
    try:
        value = float(metric)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"metric must be a number or None, not {metric!r}.") from error
    if not math.isfinite(value):
        logger.warning("The metric is %s: this checkpoint will never be the best.", value)
        return None
    return value


def _usable_device(device: torch.device | str | None) -> torch.device | None:
    if device is None:
        return None
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r} is no device of torch ({error}).") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={str(device)!r}, and torch finds no GPU here. Pass device='cpu' or leave it out.")
    return device
