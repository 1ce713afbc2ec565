"""`CheckpointManager`: a directory of checkpoints that survives kills, full disks and damaged files.

`save` writes one folder durably (`durable.py`) and then prunes by what `checkpoint_retention.py` says; `load`,
`load_best` and `load_latest` verify every byte, check everything against model and optimizer, and only then change
them. What there is, which is best and which is latest is read from the disk each time (`checkpoint_folder.py`), so
folders may be copied or deleted by hand between. What stands in the files is the business of `checkpoint_contents.py`;
`docs/checkpoint_format.md` describes it.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from systems.pixel_llm.checkpoint_folder import (
    AVERAGE_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    CheckpointRecord,
    MetricMode,
    check_checkpoint_name,
    find_checkpoint,
    is_unreadable,
    list_checkpoints,
    read_manifest,
    scan_checkpoints,
    write_manifest,
)
from systems.pixel_llm.checkpoint_lineage import Lineage
from systems.pixel_llm.checkpoint_ranking import best_record, latest_record, rank_records
from systems.pixel_llm.checkpoint_retention import prune, reasons_to_keep
from systems.pixel_llm.errors import CheckpointError, ConfigError, NotSavedError
from systems.pixel_llm.folder_reader import FolderReader
from systems.pixel_llm.folder_snapshot import FolderSnapshot
from systems.pixel_llm.folder_writer import FolderSink, FolderWriter, folder_writer
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
from systems.pixel_llm.training.model_place import usable_device
from systems.pixel_llm.training.optimizer_states import drop_optimizer_states
from systems.pixel_llm.training.own_run import OwnRun
from systems.pixel_llm.training.previous_runs import set_aside
from systems.pixel_llm.weights_file import warn_of_left

__all__ = ["CheckpointManager"]

logger = logging.getLogger(__name__)

_SMALL_BYTES = 32 << 20
"""Files up to this size are read into memory as they are compared, whatever they hold."""

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
        facts = _Facts(checkpoint_name, int(epoch), _finite_or_none(metric), metric_name, step, keep)
        model = unwrapped(model)

        def fill(writer: FolderSink) -> None:
            _write_all(writer, model, optimizer, training_state=training_state, average=average)

        return self._write(facts, fill, num_bytes=num_bytes_of(model, optimizer, average))

    def take(
        self,
        snapshot: FolderSnapshot,
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
    ) -> Callable[[], Path]:
        """Copy into `snapshot` what `save` would write; the other arguments are those of `save`.

        Returns:
            The save itself, which another thread may call while model and optimizer go on changing, as often as it
            takes; it raises what `save` does. Until then nothing else may be saved.

        Raises:
            ConfigError: the name or the metric cannot be used.
            CheckpointError: it holds what cannot be saved.
        """
        facts = _Facts(checkpoint_name, int(epoch), _finite_or_none(metric), metric_name, step, keep)
        with snapshot.taking():
            _write_all(snapshot, unwrapped(model), optimizer, training_state=training_state, average=average)
        return partial(self._write, facts, snapshot.write_to, num_bytes=snapshot.num_bytes)

    def _write(self, facts: "_Facts", fill: Callable[[FolderWriter], None], *, num_bytes: int) -> Path:
        """Make the folder durably, its files as `fill` writes them, and prune others."""
        folder = self.checkpoint_dir
        try:
            clear_leftovers(folder)
            check_free_space(folder, num_bytes)
            lineage, sequence = self._own_run.of_next_save(scan_checkpoints(folder))
            with durable_folder(folder, facts.name) as working, folder_writer(working) as writer:
                fill(writer)
                write_manifest(
                    working, facts.name, sequence=sequence, epoch=facts.epoch, metric=facts.metric, keep=facts.keep,
                    metric_name=facts.metric_name, metric_mode=self.metric_mode, step=facts.step, lineage=lineage,
                    digests=writer.digests,
                )  # fmt: skip
        except (OSError, SafetensorError, CheckpointError) as error:
            if isinstance(error, CheckpointError) and not is_unreadable(error):
                raise
            raise NotSavedError(
                f"{folder / facts.name} could not be saved ({error}). Earlier checkpoints are untouched. Make room or "
                "make the folder writable, and save again."
            ) from error
        self._own_run.note_saved(lineage, sequence)
        try:
            self._prune(lineage)
        except (CheckpointError, OSError) as error:  # it is saved: no reason to say otherwise
            logger.warning("No older checkpoint was removed this time: %s", error)
        return folder / facts.name

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
            reader = self._verified(path, manifest, model, optimizer)
        except CheckpointError as error:
            raise CheckpointError(f"{error} load_latest() takes the newest good one.") from error
        record = CheckpointRecord.of(checkpoint_name, path, manifest)
        return self._apply(record, reader, model, optimizer, device, strict=strict, skipped=[])

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
                reader = self._verified(record.path, read_manifest(record.path), model, optimizer)
            except CheckpointError as error:
                logger.warning("Checkpoint passed over: %s", error)
                skipped.append(record.name)
                continue
            return self._apply(record, reader, model, optimizer, device, strict=strict, skipped=skipped)
        found = f"all it holds are damaged: {', '.join(skipped)}" if skipped else "it holds none"
        raise CheckpointError(
            f"No good checkpoint in {self.checkpoint_dir}: {found}. Check the folder's name, or start a new run."
        )

    @staticmethod
    def _verified(
        path: Path, manifest: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer | None
    ) -> FolderReader:
        """A reader of a checkpoint of which every byte was compared, with what will be used in memory.

        A file that is far larger than the model is compared alone: whether it fits is seen before memory is taken.
        """
        num_bytes = sum(value.nbytes for value in model.state_dict().values() if isinstance(value, Tensor))
        wanted = {MODEL_FILE, AVERAGE_FILE} if optimizer is None else {MODEL_FILE, AVERAGE_FILE, OPTIMIZER_FILE}
        reader = FolderReader(path, manifest["files"])
        reader.verify(
            keep=lambda name, size: (
                size <= _SMALL_BYTES or (name in wanted and (name == OPTIMIZER_FILE or size <= 4 * num_bytes))
            )
        )
        return reader

    def _apply(
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
        """Check all that is in a verified folder, then let model and optimizer take it."""
        model = unwrapped(model)
        training_state, saved_optimizer = read_training_state(reader)
        average = read_average(reader)
        take_model = prepare_model(model, reader, usable_device(device), strict=strict)
        why_not: str | None = None
        take_optimizer = None
        if optimizer is not None:
            try:
                take_optimizer = prepare_optimizer(optimizer, model, reader, saved_optimizer)
            except CheckpointError as error:
                if strict:
                    raise
                why_not = str(error)
        left = dict(take_model())
        if take_optimizer is not None and left:
            why_not = "it belongs to weights of which some were left"
        elif take_optimizer is not None:
            take_optimizer()
        if why_not is not None:
            left[OPTIMIZER_FILE] = why_not
        warn_of_left(left, record.path)
        self._own_run.adopt(record, scan_checkpoints(self.checkpoint_dir).records)
        return {
            "name": record.name,
            "path": record.path,
            "epoch": record.epoch,
            "metric": record.metric,
            "sequence": record.sequence,
            "training_state": training_state,
            "average": average,
            "skipped": skipped,
            "left": left,
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


@dataclass(frozen=True)
class _Facts:
    """What the manifest of a checkpoint says of it."""

    name: str
    epoch: int
    metric: float | None
    metric_name: str | None
    step: int | None
    keep: bool

    def __post_init__(self) -> None:
        check_checkpoint_name(self.name)


def _write_all(
    writer: FolderSink,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    *,
    training_state: dict[str, Any] | None,
    average: Mapping[str, Tensor] | None,
) -> None:
    write_model(model, writer)
    if average is not None:
        write_average(average, writer)
    write_training_state(writer, model, optimizer, training_state=training_state)


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
