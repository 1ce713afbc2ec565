"""A torch scheduler of the user's own, moved on by the Trainer and saved with its checkpoints.

Which moment it is moved at depends on what it counts: optimizer steps, epochs or, for one that follows a metric
(`ReduceLROnPlateau`), validations. Its state goes into the checkpoint as plain numbers, so that nothing in the file can
run code; functions, which torch leaves out of the state as well, are those of the scheduler that resumes.
"""

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.state_codec import encode_state

__all__ = ["TorchScheduler"]

INTERVALS = ("step", "epoch")


class TorchScheduler:
    """A scheduler as the Trainer calls it; with None in its place nothing ever happens.

    Args:
        scheduler: the user's, over `optimizer`.
        interval: "step" or "epoch": after which of the two it is moved on. One that follows a metric is given the loss
            of each validation instead.
        optimizer: the user's; None where the Trainer makes its own.
        options: of the training, which must then ask for no schedule.
        has_validation: whether there is a loss to follow.

    Raises:
        ConfigError: this is no scheduler of torch, or one over another optimizer; the options ask for a schedule too;
            there is no loss to follow; its state is more than numbers, strings, lists and dicts.
    """

    def __init__(
        self,
        scheduler: LRScheduler | None,
        interval: str,
        *,
        optimizer: torch.optim.Optimizer | None,
        options: TrainingOptions,
        has_validation: bool,
    ) -> None:
        if interval not in INTERVALS:
            raise ConfigError(f"scheduler_interval must be one of {', '.join(map(repr, INTERVALS))}, not {interval!r}.")
        self._scheduler, self._interval = scheduler, interval
        self._follows_metric = isinstance(scheduler, ReduceLROnPlateau)
        if scheduler is None:
            return
        if not isinstance(scheduler, LRScheduler):
            raise ConfigError(
                f"scheduler must be one of torch.optim.lr_scheduler, or of a subclass, not a {self._class_name}."
            )
        if optimizer is None or scheduler.optimizer is not optimizer:
            raise ConfigError(
                f"This {self._class_name} moves another optimizer than the Trainer's. Make both yourself, and pass "
                "optimizer= and scheduler=."
            )
        asked = [name for name in ("schedule", "warmup_fraction", "warmup_steps") if getattr(options, name) is not None]
        if asked:
            raise ConfigError(
                f"scheduler= and {asked[0]}={getattr(options, asked[0])!r} both move the learning rate. Leave one out."
            )
        if self._follows_metric and not has_validation:
            raise ConfigError(
                f"{self._class_name} follows the validation loss: pass val_loader=, or another scheduler."
            )
        self._check_state()

    def after_step(self) -> None:
        """An optimizer step is done."""
        if self._scheduler is not None and self._interval == "step" and not self._follows_metric:
            self._move()

    def after_epoch(self) -> None:
        """An epoch is complete."""
        if self._scheduler is not None and self._interval == "epoch" and not self._follows_metric:
            self._move()

    def after_validation(self, loss: float) -> None:
        """Validation gave this loss."""
        if self._follows_metric:
            self._move(loss)

    def for_checkpoint(self) -> dict[str, Any]:
        """The entry that a resume needs, for the training state; empty without a scheduler."""
        if self._scheduler is None:
            return {}
        return {"scheduler": {"class": self._class_name, "state": self._scheduler.state_dict()}}

    def resume(self, training_state: dict[str, Any] | None) -> None:
        """Go on from the entry in the training state of a checkpoint; one saved by hand has none and moves nothing.

        Raises:
            CheckpointError: it was saved with another kind of scheduler.
        """
        if training_state is None:
            return
        saved = training_state.get("scheduler")
        there = "no scheduler" if saved is None else f"a {saved['class']}"
        here = "no scheduler" if self._scheduler is None else f"a {self._class_name}"
        if there != here:
            raise CheckpointError(
                f"The checkpoint was saved with {there}, and this Trainer has {here}: how the learning rate goes on is "
                "not told. Pass the scheduler that the run had, or start a new run from the weights."
            )
        if self._scheduler is not None and saved is not None:
            self._scheduler.load_state_dict(saved["state"])

    @property
    def _class_name(self) -> str:
        return type(self._scheduler).__name__

    def _move(self, *metrics: float) -> None:
        assert self._scheduler is not None
        try:
            self._scheduler.step(*metrics)  # type: ignore[arg-type]  # only ReduceLROnPlateau takes a metric
        except ValueError as error:  # as OneCycleLR past its last step
            raise ConfigError(
                f"The {self._class_name} cannot be moved on by another {self._interval}: {error} Make it as long as "
                "the run."
            ) from error

    def _check_state(self) -> None:
        assert self._scheduler is not None
        try:
            _, tensors = encode_state(self._scheduler.state_dict(), where=self._class_name)
        except CheckpointError as error:
            raise ConfigError(f"The state of the scheduler cannot be saved in a checkpoint. {error}") from error
        if tensors:
            raise ConfigError(
                f"The state of the scheduler cannot be saved in a checkpoint: {next(iter(tensors))} is a tensor. Make "
                "the scheduler, and the learning rate of its optimizer, with numbers."
            )
