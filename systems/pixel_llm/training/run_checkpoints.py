"""The checkpoints of one run: what goes into each besides the weights, what it is judged by, and going on from one.

A disk that is full or fails does not end a run: each save that fails is told of and tried again, at the next save or
after some minutes. Only where nothing at all could be saved yet, for another reason than room, the run ends there,
since it would end with nothing; and where its last save fails.

A save in the midst of a run may go on in the background: training waits for a copy in memory alone. What came of it is
told between later steps, as if it had been waited for. There is one at a time, and none is left when training ends.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import NotSavedError, PixelLLMError
from systems.pixel_llm.folder_snapshot import FolderSnapshot
from systems.pixel_llm.free_space import is_out_of_space
from systems.pixel_llm.training.background_save import BackgroundSave
from systems.pixel_llm.training.checkpoint import CheckpointManager
from systems.pixel_llm.training.checkpoint_contents import can_be_taken
from systems.pixel_llm.training.fingerprint import RunFingerprint, told_differences
from systems.pixel_llm.training.judging import Judging
from systems.pixel_llm.training.recorder import RunRecorder
from systems.pixel_llm.training.state import TrainState
from systems.pixel_llm.training.torch_scheduler import TorchScheduler
from systems.pixel_llm.training.weight_average import Averaging

__all__ = ["RunCheckpoints"]

logger = logging.getLogger(__name__)

_LONG_SECONDS = 1.0
"""Where a save takes longer, the next ones go on in the background, unless `checkpoint_async` says otherwise."""
_RETRY_SECONDS = 300.0
"""After a save that failed, the next one is due."""


class RunCheckpoints:
    """Saves one run, and takes it up again.

    Args:
        manager: of the run's checkpoint folder.
        model: the model that trains.
        optimizer: over its parameters.
        recorder: has the state, and is told of each checkpoint.
        averaging: the averaged weights, if any.
        scheduler: the user's, if any.
        scaler: of the loss in fp16.
        judging: what checkpoints are judged by.
        seed: of the run.
        is_async: whether saves go on in the background; None: where they take long. Never for a model that can only
            write its folder itself.
        fingerprint: gives that of the run's data and settings; called once, when it is needed, as it goes over all
            names and captions.
    """

    def __init__(
        self,
        manager: CheckpointManager,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        recorder: RunRecorder,
        averaging: Averaging,
        scheduler: TorchScheduler,
        scaler: torch.amp.GradScaler | None,
        judging: Judging,
        seed: int,
        is_async: bool | None,
        fingerprint: Callable[[], RunFingerprint],
    ) -> None:
        self.manager = manager
        self._model, self._optimizer, self._recorder = model, optimizer, recorder
        self._averaging, self._scheduler, self._scaler = averaging, scheduler, scaler
        self._judging, self._seed, self._fingerprint = judging, seed, cache(fingerprint)
        self._is_async = is_async if can_be_taken(model) else False
        self._snapshot, self._background = FolderSnapshot(), BackgroundSave()
        self._saved_place: tuple[int, int, int] | None = self._place
        self._is_begun = False
        self._has_saved = False
        self._retry_time: float | None = None

    @property
    def is_saved(self) -> bool:
        """Whether a checkpoint of the run's own holds all that there is to it now."""
        return self._place == self._saved_place

    @property
    def _place(self) -> tuple[int, int, int]:
        """Steps, complete epochs, validations: after an epoch's last step come its end and its validation, which what
        was saved at that step does not have.
        """
        state = self._recorder.state
        return state.step, state.epoch, len(state.history["val_losses"])

    def save(self, name: str, *, train_loss: float | None = None) -> Path:
        """Save one with the run's metric, where that was measured at this step.

        Raises:
            CheckpointError: it could not be written.
            TrainingError: a weight, an average or a number of the optimizer is not finite; nothing was written.
        """
        path = self._save(name, metric=self._metric(train_loss), keep=False)
        self._saved_place = self._place
        return path

    def save_end(self, name: str, *, train_loss: float | None) -> None:
        """As `save`, for the last one of a run.

        Raises:
            CheckpointError, TrainingError: as `save`.
        """
        try:
            self.save(name, train_loss=train_loss)
        except NotSavedError as error:
            raise NotSavedError(f"{error} It was the run's last one. {self._last_good()}") from error.__cause__

    def save_in_passing(self, name: str, *, train_loss: float | None) -> None:
        """As `save`, in the midst of a run: where the disk does not take it, the run goes on.

        Raises:
            CheckpointError: nothing of the run could be saved yet, and it is not room that lacks.
            TrainingError: as `save`.
        """
        with self._going_on():
            self._save_beside(name, metric=self._metric(train_loss))
            self._saved_place = self._place

    def save_between(self, name: str) -> None:
        """Save one without a metric, which stands in for none of the run's own; else as `save_in_passing`."""
        with self._going_on():
            self._save_beside(name, metric=None)

    def look_after(self, *, wait: bool = False) -> None:
        """Tell what came of the save in the background, if it has ended; with `wait`, wait for it.

        Raises:
            CheckpointError: as `save_in_passing`.
        """
        with self._going_on():
            if (path := self._background.outcome(wait=wait)) is not None:
                self._note_saved(path)

    @property
    def is_retry_due(self) -> bool:
        """Whether the last save failed, some minutes ago."""
        return self._retry_time is not None and self._recorder.clock() >= self._retry_time

    def save_for_good(self, name: str) -> Path:
        """Save one that is never pruned, and stands in for none of the run's own."""
        return self._save(name, metric=None, keep=True)

    def save_before_raising(self) -> None:
        """An error ends the run: keep what is learned. A failure to save must not hide that error."""
        step = self._recorder.state.step
        if self.is_saved:
            return
        try:
            path = self.save(f"step_{step}")
            logger.warning("Stopped by an error; what was learned up to step %d is in %s.", step, path)
        except (PixelLLMError, OSError) as error:
            logger.warning("Stopped by an error, and no checkpoint could be saved: %s", error)

    def resume(self, name: str | None, *, device: torch.device, steps_per_epoch: int | None) -> dict[str, Any]:
        """Take weights, optimizer and place in the run from a checkpoint; without a name from the newest good one.

        Returns:
            What `CheckpointManager.load` returns.

        Raises:
            CheckpointError: there is none, or it does not fit.
        """
        self.look_after(wait=True)
        if name is None:
            info = self.manager.load_latest(model=self._model, optimizer=self._optimizer, device=device)
        else:
            info = self.manager.load(name, model=self._model, optimizer=self._optimizer, device=device)
        self.manager.continue_run(info["name"])
        self._is_begun = True
        saved = info["training_state"]
        self._scheduler.resume(saved)
        if saved is None:  # saved by hand: its epoch number is all there is
            self._recorder.adopt(TrainState(epoch=info["epoch"], step=info["epoch"] * (steps_per_epoch or 0)))
        else:
            self._recorder.adopt(TrainState.from_dict(saved["state"]))
            if saved["seed"] != self._seed:
                logger.warning(
                    "seed=%d differs from the checkpoint's seed=%d: the order of pictures changes from here on.",
                    self._seed, saved["seed"],
                )  # fmt: skip
            if (record := saved.get("fingerprint")) is not None:  # older checkpoints have none
                for difference in told_differences(RunFingerprint.from_dict(record), self._fingerprint()):
                    logger.warning("%s", difference)
        self._averaging.resume(info["average"], num_updates=(saved or {}).get("num_averaged") or 0)
        if self._scaler is not None and (scaling := (saved or {}).get("scaler")) is not None:
            self._scaler.load_state_dict(scaling)
        self._saved_place = self._place
        self._has_saved = True
        return info

    def _save(self, name: str, *, metric: float | None, keep: bool) -> Path:
        """Save, and wait for it."""
        self._make_ready()
        path = self.manager.save(checkpoint_name=name, **self._contents(), metric=metric, keep=keep)
        self._note_saved(path)
        return path

    def _save_beside(self, name: str, *, metric: float | None) -> None:
        """Save; in the background, where that is asked for or the save before took long."""
        started = self._recorder.clock()
        if not self._is_async:
            self._save(name, metric=metric, keep=False)
            if self._is_async is None and self._recorder.clock() - started > _LONG_SECONDS:
                self._is_async = True
            return
        self._make_ready()
        self._background.start(self.manager.take(self._snapshot, name, **self._contents(), metric=metric))

    def _make_ready(self) -> None:
        """The save before is at its end, and all numbers are finite."""
        self.look_after(wait=True)
        recorder, average = self._recorder, self._averaging.average
        recorder.read_losses()
        for what, tensors in (
            ("A weight", self._model.parameters()),
            ("An averaged weight", () if average is None else average.tensors.values()),
            # A weight whose second moment is infinite never moves again.
            ("The optimizer's state", _tensors_in(self._optimizer.state)),
        ):
            if not _are_finite(tensors):
                raise recorder.divergence(f"{what} became infinite or NaN")
        if not self._is_begun:  # not resumed: checkpoints that are there are of an earlier run
            self.manager.begin_run()
            self._is_begun = True

    def _contents(self) -> dict[str, Any]:
        """What goes into a checkpoint now, as `CheckpointManager.save` takes it."""
        state, average = self._recorder.state, self._averaging.average
        return {
            "model": self._model,
            "optimizer": self._optimizer,
            "epoch": state.epoch,
            "step": state.step,
            "metric_name": self._judging.metric_name,
            "training_state": {
                "state": state.to_dict(),
                "seed": self._seed,
                "fingerprint": self._fingerprint().to_dict(),
                "scaler": None if self._scaler is None else self._scaler.state_dict(),
                "num_averaged": None if average is None else average.num_updates,
                **self._scheduler.for_checkpoint(),
            },
            "average": None if average is None else average.tensors,
        }

    def _note_saved(self, path: Path) -> None:
        self._has_saved, self._retry_time = True, None
        self._recorder.tell_checkpoint(path)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except NotSavedError as error:
            if not (self._has_saved or is_out_of_space(error.__cause__)):
                raise
            self._saved_place = None
            self._retry_time = self._recorder.clock() + _RETRY_SECONDS
            logger.warning(
                "%s Training goes on; it is tried again at the next save, or in %d minutes. %s",
                error, _RETRY_SECONDS // 60, self._last_good(),
            )  # fmt: skip

    def _last_good(self) -> str:
        try:
            latest = self.manager.latest()
        except (PixelLLMError, OSError) as error:
            return f"What was saved before cannot be looked at: {error}"
        return "No checkpoint was saved yet." if latest is None else f"The last good checkpoint is {latest.path}."

    def _metric(self, train_loss: float | None) -> float | None:
        """What the checkpoint of this very step is judged by; None where it was not measured at this step."""
        history, name = self._recorder.state.history, self._judging.metric_name
        if name == "train_loss":
            return train_loss
        steps = history["val_steps" if name == "val_loss" else "score_steps"]
        return history[self._judging.history_name][-1] if steps[-1:] == [self._recorder.state.step] else None


def _tensors_in(state: Mapping[Any, Any]) -> Iterator[Tensor]:
    """The tensors of an optimizer's state, at whatever depth."""
    for value in state.values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors_in(value)


def _are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are; asked of a device once, not once a tensor."""
    # The largest absolute value is NaN where there is a NaN; no tensor of the same size is made on the way to it.
    largest = [
        torch.linalg.vector_norm(tensor.detach(), ord=math.inf)
        for tensor in tensors
        if tensor.is_floating_point() and tensor.numel()
    ]
    devices: dict[torch.device, list[Tensor]] = {}
    for each in largest:
        devices.setdefault(each.device, []).append(each.float())
    return all(bool(torch.stack(each).isfinite().all()) for each in devices.values())
