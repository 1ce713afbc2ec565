"""`CheckpointManager`: a directory of checkpoints that survives kills, full disks and damaged files.

`save` writes one folder durably (`checkpoint_writing.py`) and then prunes by what `checkpoint_retention.py` says;
`load`, `load_best` and `load_latest` choose one that is whole and let model and optimizer take it
(`checkpoint_loading.py`). What there is, which is best and which is latest is read from the disk each time
(`checkpoint_folder.py`), so folders may be copied or deleted by hand between. What stands in the files is the business
of `checkpoint_contents.py`; `docs/checkpoint_format.md` describes it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.checkpoint_folder import (
    CheckpointRecord,
    MetricMode,
    find_checkpoint,
    list_checkpoints,
    read_manifest,
    scan_checkpoints,
)
from systems.pixel_llm.checkpoint_lineage import Lineage
from systems.pixel_llm.checkpoint_ranking import best_record, latest_record, rank_records
from systems.pixel_llm.checkpoint_retention import prune, reasons_to_keep
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.folder_reader import FolderReader
from systems.pixel_llm.folder_snapshot import FolderSnapshot
from systems.pixel_llm.training.checkpoint_loading import take_checkpoint, verified_reader
from systems.pixel_llm.training.checkpoint_writing import (
    CONTENTS,
    CheckpointContents,
    CheckpointFacts,
    WritableFiles,
    write_checkpoint,
)
from systems.pixel_llm.training.model_place import usable_device
from systems.pixel_llm.training.optimizer_states import drop_optimizer_states
from systems.pixel_llm.training.own_run import OwnRun
from systems.pixel_llm.training.previous_runs import set_aside

__all__ = ["CheckpointManager"]

logger = logging.getLogger(__name__)

Records = list[CheckpointRecord]


class CheckpointManager:
    """Saves, finds, loads and prunes checkpoints of any `nn.Module`, one folder each in `checkpoint_dir`.

    A manager begins a run of its own, unless it loads a checkpoint before it saves one: then it goes on with the run of
    that one. It prunes checkpoints of its run only.

    Args:
        checkpoint_dir: the directory; made at the first save.
        max_checkpoints: how many of the run's best to keep; where fewer have a metric, the newest fill the places.
            Besides them the newest two, those saved with `keep=True`, copies made by hand, those that the run was
            resumed from and those given to `protect` are never pruned.
        metric_mode: "min" where a lower metric is better, "max" where a higher one is.
        save_optimizer: "all", or "latest": only the newest two, those saved with `keep=True` and those resumed from
            keep the state of the optimizer, which is two thirds of a checkpoint.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        max_checkpoints: int = 3,
        metric_mode: str = "min",
        *,
        save_optimizer: str = "all",
    ) -> None:
        if max_checkpoints < 1:
            raise ConfigError(f"max_checkpoints must be at least 1, not {max_checkpoints}.")
        if save_optimizer not in ("all", "latest"):
            raise ConfigError(f"save_optimizer must be 'all' or 'latest', not {save_optimizer!r}.")
        rank_records([], metric_mode)
        self.checkpoint_dir = Path(checkpoint_dir)
        self.max_checkpoints = max_checkpoints
        self.metric_mode: MetricMode = "max" if metric_mode == "max" else "min"
        self.save_optimizer = save_optimizer
        self._own_run = OwnRun()

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
        step: int | None = None,
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
            step: optimizer steps taken, for whoever lists checkpoints.
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
        return self._write(
            CheckpointFacts(checkpoint_name, epoch, metric, metric_name, step, keep),
            CheckpointContents(model, optimizer, training_state, average),
        )

    def take(self, snapshot: FolderSnapshot, checkpoint_name: str, **contents: Any) -> Callable[[], Path]:
        """Copy into `snapshot` what `save`, given the same `contents`, would write.

        Returns:
            The save itself, which another thread may call while model and optimizer go on changing, as often as it
            takes; it raises what `save` does. Until then nothing else may be saved.

        Raises:
            ConfigError: the name or the metric cannot be used.
            CheckpointError: it holds what cannot be saved.
        """
        given = {name: contents.pop(name) for name in CONTENTS if name in contents}
        facts = CheckpointFacts(checkpoint_name, **contents)
        with snapshot.taking():
            CheckpointContents(**given).write_to(snapshot)
        return partial(self._write, facts, snapshot)

    def _write(self, facts: CheckpointFacts, contents: WritableFiles) -> Path:
        """Save durably, and prune others."""
        lineage = write_checkpoint(
            self.checkpoint_dir, facts, contents, metric_mode=self.metric_mode, own_run=self._own_run
        )
        try:
            self._prune(lineage)
        except (CheckpointError, OSError) as error:  # it is saved: no reason to say otherwise
            logger.warning("No older checkpoint was removed this time: %s", error)
        return self.checkpoint_dir / facts.name

    def protect(self, checkpoint_name: str) -> None:
        """Never prune this checkpoint while this manager lives."""
        self._own_run.protected.add(checkpoint_name)

    def begin_run(self) -> None:
        """Begin a run of its own: checkpoints that are there are moved to `previous/<their run>/`, and none is removed.

        Raises:
            NotSavedError: they cannot be moved.
        """
        set_aside(self.checkpoint_dir)
        self._own_run.begin()

    def continue_run(self, checkpoint_name: str) -> None:
        """Go on with the run of this checkpoint, which is resumed from and so not pruned.

        The checkpoints that follow say so in their manifests, so that another process keeps it too. Kept are the one
        resumed from last, and each that the run was resumed from while it had newer ones.

        Raises:
            CheckpointError: there is no such checkpoint, or its manifest is damaged.
        """
        path = find_checkpoint(self.checkpoint_dir, checkpoint_name)
        record = CheckpointRecord.of(checkpoint_name, path, read_manifest(path))
        self._own_run.resume(record, scan_checkpoints(self.checkpoint_dir).records)

    def _prune(self, lineage: Lineage) -> None:
        records = scan_checkpoints(self.checkpoint_dir).records
        reasons = reasons_to_keep(
            records, lineage,
            max_checkpoints=self.max_checkpoints, metric_mode=self.metric_mode, protected=self._own_run.protected,
        )  # fmt: skip
        prune(records, reasons)
        if self.save_optimizer == "latest":
            drop_optimizer_states(records, reasons)

    # --- loading ------------------------------------------------------------------------------------------------------

    def load(
        self,
        checkpoint_name: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | str | None = None,
        *,
        strict: bool = True,
    ) -> dict[str, Any]:
        """Load the checkpoint of this name into `model` and, where given, `optimizer`, in place.

        Nothing of either is changed where the checkpoint is damaged or does not fit.

        Args:
            checkpoint_name: the folder's name in `checkpoint_dir`.
            model: is not moved; wrappers are seen through.
            optimizer: over the model's parameters, made as the saved one was. None loads the weights alone.
            device: where the weights are read to on their way into the model; the CPU if None.
            strict: False takes what fits: tensors with the names and shapes of the model's, and the optimizer's state
                where all of them are. A warning lists what was left.

        Returns:
            `{"name", "path", "epoch", "metric", "sequence", "training_state", "average", "skipped", "left"}`:
            `training_state` and `average` are what `save` was given, `skipped` the names of damaged checkpoints passed
            over (here none), `left` what was not taken: name -> why, nothing where `strict`.

        Raises:
            ConfigError: the name or the device cannot be used.
            CheckpointError: the checkpoint is missing, damaged, or does not fit; the message tells how.
        """
        path = find_checkpoint(self.checkpoint_dir, checkpoint_name)
        try:
            manifest = read_manifest(path)
            reader = verified_reader(path, manifest, model, optimizer)
        except CheckpointError as error:
            raise CheckpointError(f"{error} load_latest() takes the newest good one.") from error
        record = CheckpointRecord.of(checkpoint_name, path, manifest)
        return self._take(record, reader, model, optimizer, device, strict=strict, skipped=[])

    def load_best(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | str | None = None,
        *,
        strict: bool = True,
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
        return self._load_first_good(ranked, scan.damaged, model, optimizer, device, strict=strict)

    def load_latest(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | str | None = None,
        *,
        strict: bool = True,
    ) -> dict[str, Any]:
        """Load the good checkpoint saved last; as `load`, but passes over damaged ones with a warning.

        Raises:
            CheckpointError: there is no good checkpoint, or the latest one does not fit.
        """
        scan = scan_checkpoints(self.checkpoint_dir)
        return self._load_first_good(reversed(scan.records), scan.damaged, model, optimizer, device, strict=strict)

    def _load_first_good(
        self,
        records: Iterable[CheckpointRecord],
        damaged: dict[str, str],
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        device: torch.device | str | None,
        *,
        strict: bool,
    ) -> dict[str, Any]:
        for reason in damaged.values():
            logger.warning("Checkpoint passed over: %s", reason)
        skipped = list(damaged)
        for record in records:
            try:
                reader = verified_reader(record.path, read_manifest(record.path), model, optimizer)
            except CheckpointError as error:
                logger.warning("Checkpoint passed over: %s", error)
                skipped.append(record.name)
                continue
            return self._take(record, reader, model, optimizer, device, strict=strict, skipped=skipped)
        found = f"all it holds are damaged: {', '.join(skipped)}" if skipped else "it holds none"
        raise CheckpointError(
            f"No good checkpoint in {self.checkpoint_dir}: {found}. Check the folder's name, or start a new run."
        )

    def _take(
        self,
        record: CheckpointRecord,
        reader: FolderReader,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        device: torch.device | str | None,
        *,
        strict: bool,
        skipped: list[str],
    ) -> dict[str, Any]:
        found = take_checkpoint(reader, model, optimizer, device=usable_device(device), strict=strict)
        self._own_run.adopt(record, scan_checkpoints(self.checkpoint_dir).records)
        facts = {name: getattr(record, name) for name in ("name", "path", "epoch", "metric", "sequence")}
        return {**facts, **found, "skipped": skipped}

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
