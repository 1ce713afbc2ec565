"""The training loop, readable from top to bottom: `train` -> `_train_epoch` -> `train_step`, with `validate` between.

`train` goes on epoch after epoch until the budget ends (`budget.py`). An epoch takes its batches in an order that
follows from (seed, epoch) (`batches.py`); a step turns captions into ids, computes logits where a target exists, and
minimises the mean loss over those tokens. Where the run stands is one object (`state.py`), saved with the weights, so a
resumed run goes on at the very next batch; one of which no picture could be read counts as done. What is measured and
told goes through `recorder.py`.
"""

import logging
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from systems.pixel_llm.errors import ConfigError, DatasetError, NotSavedError, TrainingError
from systems.pixel_llm.models.precision import resolve_precision
from systems.pixel_llm.training.bad_steps import BAD_STEPS_FILE, BadStepLog
from systems.pixel_llm.training.batches import EpochBatches
from systems.pixel_llm.training.budget import RunBudget
from systems.pixel_llm.training.callbacks import Callback
from systems.pixel_llm.training.checkpoint import CheckpointManager
from systems.pixel_llm.training.compilation import check_compiler, padding_for
from systems.pixel_llm.training.determinism import check_deterministic, deterministic_algorithms
from systems.pixel_llm.training.fetching import Fetching
from systems.pixel_llm.training.fingerprint import run_fingerprint
from systems.pixel_llm.training.freezing import freeze, hold_still
from systems.pixel_llm.training.interruption import deferred_stop
from systems.pixel_llm.training.judging import Judging, Scorer
from systems.pixel_llm.training.loss import loss_of_training
from systems.pixel_llm.training.metrics_log import MetricsLog
from systems.pixel_llm.training.model_place import captioner_in, choose_device
from systems.pixel_llm.training.optim import (
    check_default_optimizer,
    default_groups,
    default_optimizer,
    learning_rates_of,
    scale_learning_rate,
    set_hyperparameters,
)
from systems.pixel_llm.training.optimizer_step import OptimizerStep, StepOutcome
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.outside_logs import make_outside_logs
from systems.pixel_llm.training.panel import Panel
from systems.pixel_llm.training.pauses import Pauses
from systems.pixel_llm.training.progress import shown_progress
from systems.pixel_llm.training.recorder import RunRecorder
from systems.pixel_llm.training.run_checkpoints import RunCheckpoints
from systems.pixel_llm.training.schedule import learning_rate_factor
from systems.pixel_llm.training.state import History, TrainState
from systems.pixel_llm.training.stepping import Stepping
from systems.pixel_llm.training.torch_scheduler import TorchScheduler
from systems.pixel_llm.training.utilisation import utilisation_of
from systems.pixel_llm.training.validation import Validation
from systems.pixel_llm.training.vocabulary import prepare_vocabulary
from systems.pixel_llm.training.weight_average import Averaging
from systems.pixel_llm.training.worker_processes import deferred_deaths

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a `PixelLLM` on batches of captioned pictures.

    Args:
        model: the model; moved to `device`. Its tokenizer is fitted to the training captions if it is not yet.
        train_loader: gives batches `{"images": [B, 3, H, W], "captions": list of B strings}`. With the key
            "caption_image_index" [C], the captions are C and it tells of each the row of its picture.
        val_loader: the same, for validation.
        optimizer: any torch optimizer over the model's parameters. Left out: AdamW by the options. A given optimizer's
            learning rate is left alone unless the option `schedule` is set. Parameters that `freeze` names are passed
            over by it, as they have no gradient.
        loss_fn: called as `loss_fn(predictions [N, V], targets [N])` with the supervised positions only, in fp32; taken
            to be a mean over them. A module is in eval mode while validating. Left out: `CaptionLoss`.
        device: where to train. Left out: the model's device, or the GPU where there is one and the model is on the CPU.
        checkpoint_dir: where checkpoints go, one folder each. Where it holds those of an earlier run, and this Trainer
            resumes none, its first save moves them to `previous/` in it; nothing is removed.
        checkpoint_interval: save every so many epochs. (A run bounded by steps or minutes saves at each validation.)
        log_interval: report every so many steps.
        metrics_file: the log of measurements, one JSON object a line; `checkpoint_dir/metrics.jsonl` if left out.
        callbacks: callables that are given each event of `systems.pixel_llm.training.events`, or objects with any of
            the methods `on_step`, `on_validation`, `on_checkpoint` and `on_epoch_end`, each given its event.
        scheduler: a torch scheduler over `optimizer`, moved on by the Trainer and saved with its checkpoints.
        scheduler_interval: "step" or "epoch": after which of the two it is moved on. (`ReduceLROnPlateau` is given the
            loss of each validation instead.)
        scorer: scores captions of a few pictures beside validations (`systems.pixel_llm.training.judging.Scorer`); the
            best checkpoint follows it unless the option `metric` says otherwise.
        panel: captions the same few pictures beside each validation (`systems.pixel_llm.training.panel.Panel`).
        options: a `TrainingOptions`; single settings may be given by name instead or on top.
        **settings: the fields of `TrainingOptions`, such as `learning_rate`, `precision`, `seed`, `max_minutes`.

    Raises:
        ConfigError: a setting is unknown or out of range, names no part of the model or clashes with another, the
            model is not a PixelLLM, or a callback is none.
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: Any,
        val_loader: Any = None,
        optimizer: torch.optim.Optimizer | None = None,
        loss_fn: Any = None,
        device: torch.device | str | None = None,
        checkpoint_dir: str | Path = "./checkpoints",
        checkpoint_interval: int = 1,
        log_interval: int = 10,
        *,
        metrics_file: str | Path | None = None,
        callbacks: Iterable[Callback] = (),
        scheduler: LRScheduler | None = None,
        scheduler_interval: str = "step",
        scorer: Scorer | None = None,
        panel: Panel | None = None,
        options: TrainingOptions | None = None,
        **settings: Any,
    ) -> None:
        self.options = (options or TrainingOptions()).replaced(**settings)
        for name, value in (("checkpoint_interval", checkpoint_interval), ("log_interval", log_interval)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}.")
        self._captioner = captioner_in(model)
        if self.options.gradient_checkpointing:  # else as the model has it
            self._captioner.gradient_checkpointing = True
        self.device = choose_device(device, model)
        if self.options.compile:
            check_compiler(self.device)
            self._captioner.compile_blocks(deterministic=self.options.deterministic)
        self.model = model.to(self.device)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.loss_fn = loss_of_training(
            loss_fn,
            label_smoothing=self.options.label_smoothing,
            target_ids=lambda: self._captioner.tokenizer.target_ids,
        )
        if isinstance(self.loss_fn, nn.Module):
            self.loss_fn.to(self.device)
        if self.options.deterministic:
            check_deterministic(self.device)
        self._scheduler = TorchScheduler(
            scheduler, scheduler_interval,
            optimizer=optimizer, options=self.options, has_validation=val_loader is not None,
        )  # fmt: skip
        check_default_optimizer(self.options, is_default=optimizer is None)
        self._frozen = freeze(self._captioner, self.options.frozen_parts)
        self._owns_optimizer = optimizer is None
        self.optimizer: torch.optim.Optimizer = optimizer or default_optimizer(self._captioner, self.options)
        self.schedule = self.options.schedule or ("cosine" if self._owns_optimizer else None)
        self.precision = resolve_precision(self.options.precision, self.device)
        optimizer_step = OptimizerStep(
            model, self.optimizer, self.loss_fn,
            device=self.device, precision=self.precision, max_grad_norm=self.options.max_grad_norm,
            seed=self.options.seed, pad=padding_for(self._captioner, train_loader),
        )  # fmt: skip
        self._averaging = Averaging(self._captioner, decay=self.options.ema_decay)
        self.judging = Judging(self.options, scorer, has_validation=val_loader is not None)
        self.stop_reason: str | None = None
        """Why the last `train` ended: epochs, max_steps, max_minutes, early_stopping or interrupted."""

        self._train_batches = EpochBatches(train_loader, seed=self.options.seed)
        metrics_log = MetricsLog(Path(metrics_file or Path(checkpoint_dir) / "metrics.jsonl"))
        self._stepping = Stepping(
            optimizer_step, self._captioner, bad_step_log=BadStepLog(metrics_log.path.with_name(BAD_STEPS_FILE)),
            max_bad_steps=self.options.max_bad_steps,
        )  # fmt: skip
        self._recorder = RunRecorder(
            self.device, metrics_log=metrics_log, callbacks=callbacks, log_interval=log_interval,
            outside_logs=make_outside_logs(
                self.options.log_names, metrics_log.path.parent,
                settings=asdict(self.options) | self._captioner.config.to_dict(),
            ),
            max_grad_norm=self.options.max_grad_norm,
            utilisation=utilisation_of(self._captioner, self.device, self.precision),
        )  # fmt: skip
        self._fetching = Fetching(self._recorder, is_stopped=self._is_stopped)
        self._validation = Validation(
            val_loader, self._captioner,
            stepping=self._stepping, fetching=self._fetching, averaging=self._averaging, judging=self.judging,
            is_stopped=self._is_stopped, seed=self.options.seed, beside=train_loader, panel=panel,
        )  # fmt: skip
        manager = CheckpointManager(
            checkpoint_dir, max_checkpoints=self.options.max_checkpoints, metric_mode=self.judging.metric_mode,
            save_optimizer=self.options.save_optimizer,
        )  # fmt: skip
        self._checkpoints = RunCheckpoints(
            manager, self.model, self.optimizer,
            recorder=self._recorder, averaging=self._averaging, scheduler=self._scheduler,
            scaler=self._stepping.scaler, judging=self.judging, seed=self.options.seed,
            is_async=self.options.checkpoint_async,
            fingerprint=partial(
                run_fingerprint, train_loader, val_loader, self.options,
                config=self._captioner.config, precision=self.precision, schedule=self.schedule,
            ),
        )  # fmt: skip
        self._pauses = Pauses(
            self.options,
            checkpoint_interval=checkpoint_interval, num_batches=lambda: self._train_batches.num_batches,
            recorder=self._recorder, validation=self._validation, checkpoints=self._checkpoints,
            scheduler=self._scheduler, judging=self.judging, is_stopped=self._is_stopped,
        )  # fmt: skip
        self._is_prepared = False
        self._is_stop_requested = False

    @property
    def state(self) -> TrainState:
        """Where the run stands."""
        return self._recorder.state

    @property
    def checkpoint_manager(self) -> CheckpointManager:
        """Of `checkpoint_dir`."""
        return self._checkpoints.manager

    @property
    def checkpoint_interval(self) -> int:
        """Epochs from one save to the next."""
        return self._pauses.checkpoint_interval

    @property
    def bad_pictures(self) -> dict[str, str]:
        """Path -> reason of the pictures that could not be read and were left out, in the order they were met."""
        return dict(self._recorder.bad_pictures)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self, num_epochs: int | None = None, start_epoch: int = 0, resume_from: str | None = None) -> History:
        """Train until `num_epochs` epochs are complete in total, or another bound of the options is reached.

        Called again, it goes on from where it is. Ctrl-C finishes the step, saves a checkpoint and then raises
        KeyboardInterrupt; SIGTERM, SIGHUP and SIGUSR1, unless the program handles or ignores them, do the same and then
        raise SystemExit(128 + n). An error saves what is learned so far before it is raised.

        Args:
            num_epochs: epochs in total, those before a resume included. May be left out with `max_steps` or
                `max_minutes`.
            start_epoch: completed epochs to start from; 0 takes what the checkpoint says, any other value must agree.
            resume_from: name of a checkpoint in `checkpoint_dir` to continue.

        Returns:
            `{"train_losses": one an epoch, "val_losses": one a validation, "val_steps": the steps of those}`, and where
            captions were scored "cider_d", "distinct_captions" and "score_steps" likewise.

        Raises:
            ConfigError: no bound is given, or `start_epoch` differs from the checkpoint's epoch.
            CheckpointError: `resume_from` is missing, damaged or does not fit the model.
            DatasetError: a loader gives no batch, a picture cannot be read and the dataset does not skip such, or none
                of an epoch can.
            TrainingError: the loss or its gradient was no finite number `max_bad_steps` times in a row, or throughout
                an epoch.
        """
        if resume_from is not None:
            self.resume(resume_from)
        if start_epoch not in (0, self.state.epoch):
            raise ConfigError(
                f"start_epoch={start_epoch} differs from the {self.state.epoch} completed epochs of "
                f"{'this trainer' if resume_from is None else f'checkpoint {resume_from!r}'}. Leave start_epoch out."
            )
        max_minutes = self.options.max_minutes
        budget = RunBudget(
            num_epochs=num_epochs,
            steps_per_epoch=self._steps_per_epoch,
            max_steps=self.options.max_steps,
            max_seconds=None if max_minutes is None else 60 * max_minutes,
        )
        self._recorder.begin_run(budget)
        self.stop_reason = None
        try:
            self._prepare()
            with (
                shown_progress(self.options.progress) as shown,
                deferred_deaths(),
                deferred_stop(self.request_stop),
                deterministic_algorithms(self.options.deterministic),
            ):
                self._recorder.shown = shown
                self._run()
        finally:
            try:
                self._checkpoints.look_after(wait=True)  # no process ends before its last save
            finally:
                self._recorder.end_run()
                self._is_stop_requested = False
        return self.get_history()

    def _run(self) -> None:
        self._recorder.start_clock()
        reason = self._pauses.end_reason()
        if reason == "interrupted" or (reason is not None and not self.state.is_validation_due):
            logger.info("Nothing to do: the run is at its end already (%s).", reason)
            self.stop_reason = reason
            if reason != "interrupted":
                self._recorder.note_end(reason)
            return
        self._recorder.tell_start(
            precision=self.precision,
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
        )
        try:
            if self.state.is_validation_due:
                self._pauses.make_up_for_validation()
            while (reason := self._pauses.end_reason()) is None:
                self._train_epoch(self.state.epoch)
            self.stop_reason = reason
            self._pauses.finish(reason)
        except TrainingError as error:
            # What is in the weights now is not worth keeping.
            self._checkpoints.look_after(wait=True)
            latest = self.checkpoint_manager.latest()
            kept = "No checkpoint was saved yet." if latest is None else f"The last good checkpoint is {latest.path}."
            raise TrainingError(f"{error} {kept}") from error
        except NotSavedError:  # to save is what has just failed
            raise
        except Exception:
            self._checkpoints.save_before_raising()
            raise

    def _train_epoch(self, epoch: int) -> float | None:
        """Train on the batches of `epoch` (counted from 0), from the position the state tells, and record its loss.

        Returns:
            The epoch's loss, the mean over its tokens in nats; None where the run ended before the epoch did.
        """
        self._prepare()
        state = self.state
        if epoch != state.epoch:
            self._recorder.begin_epoch(epoch)
        if self._recorder.budget is None:  # called by itself: the time since the last call is not training
            self._recorder.start_clock()
        self.model.train()
        batches = self._train_batches.epoch(epoch, start=state.batch_in_epoch)
        while step_batches := self._fetching.of_step(batches, count=self.options.gradient_accumulation_steps):
            self._take_step(step_batches)
            self._recorder.tell_step(learning_rates=learning_rates_of(self.optimizer))
            self._pauses.at_tenths()
            self._pauses.save_at_steps()
            if state.batch_in_epoch != self._train_batches.num_batches and self._pauses.end_reason() is not None:
                return None
        if self._is_stop_requested and state.batch_in_epoch != self._train_batches.num_batches:
            return None
        return self._complete_epoch()

    def train_step(self, batch: Any) -> Tensor:
        """One optimizer step on one batch, whatever `gradient_accumulation_steps` is.

        Returns:
            The batch's loss before the step, a detached scalar on the device.
        """
        outcome = self._take_step([batch])
        return torch.zeros((), device=self.device) if outcome is None else outcome.loss

    def _take_step(self, batches: Sequence[Any]) -> StepOutcome | None:
        """One optimizer step on the batches together; None where they hold no caption."""
        self._prepare()
        hold_still(self._frozen)
        self._set_learning_rate()
        outcome = self._stepping.take(batches, self.state)
        if outcome is not None and not outcome.is_bad:
            self._scheduler.after_step()
            self._averaging.update()
        self._recorder.add_step(outcome, num_batches=len(batches))
        return outcome

    def validate(self) -> float | None:
        """Mean loss over all tokens of `val_loader`, in nats: the same for every batch size and order.

        With `ema_decay` it is that of the averaged weights.

        Returns:
            None where there is no `val_loader`, a stop was requested before the end, or no picture could be read.
        """
        if self._validation.has_data:
            self._prepare()
        return self._validation.loss(self.state)

    # --- what a person asks for ---------------------------------------------------------------------------------------

    def resume(self, checkpoint_name: str | None = None) -> dict[str, Any]:
        """Take weights, optimizer and place in the run from a checkpoint; without a name from the newest good one.

        Returns:
            What `CheckpointManager.load` returns.
        """
        info = self._checkpoints.resume(checkpoint_name, device=self.device, steps_per_epoch=self._steps_per_epoch)
        if self._owns_optimizer:
            # The options are where these are written; the checkpoint holds the rate of one moment of the schedule.
            set_hyperparameters(self.optimizer, default_groups(self._captioner, self.options))
        return info

    def request_stop(self) -> None:
        """Ask `train` to finish its step, save and return; asked before, it returns at once.

        Safe in a signal handler or another thread. In a signal handler it ends a wait for data, by raising.
        """
        self._is_stop_requested = True
        self._fetching.wait.end()

    def _is_stopped(self) -> bool:
        return self._is_stop_requested

    def save_checkpoint(self, name: str) -> Path:
        """Save a checkpoint that is never pruned, and return its folder."""
        return self._checkpoints.save_for_good(name)

    def get_history(self) -> History:
        """A copy of the losses so far: `train_losses` one an epoch, `val_losses` one a validation, and `val_steps`."""
        return deepcopy(self.state.history)

    # --- between the steps --------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Once, before the first step: fit the tokenizer, check the captions' lengths, take over the preprocessing."""
        if self._is_prepared:
            return
        prepare_vocabulary(self._captioner, self.train_loader, self.optimizer)
        self._averaging.begin()
        preprocessing = getattr(getattr(self.train_loader, "dataset", None), "preprocessing", None)
        if preprocessing is not None:
            self._captioner.preprocessing = preprocessing
        self._is_prepared = True

    def _set_learning_rate(self) -> None:
        if self.schedule is None or self._recorder.budget is None:
            return
        # The middle of the step, so that neither the first nor the last step has a rate of 0.
        step = self.state.step + 0.5
        progress = self._recorder.advance_progress(step=step)
        settings = self.options.schedule_settings
        factor = learning_rate_factor(progress, schedule=self.schedule, step=step, **settings)
        scale_learning_rate(self.optimizer, factor)

    @property
    def _steps_per_epoch(self) -> int | None:
        """The last step of an epoch takes what batches are left."""
        num_batches = self._train_batches.num_batches
        return None if num_batches is None else -(-num_batches // self.options.gradient_accumulation_steps)

    def _complete_epoch(self) -> float:
        state, budget = self.state, self._recorder.budget
        self._recorder.read_losses()
        train_loss = state.mean_epoch_loss
        if train_loss is None and state.bad_steps_in_a_row:
            raise self._recorder.divergence(f"Every loss or gradient of epoch {state.epoch + 1} was no number")
        if train_loss is None:
            raise DatasetError(
                f"None of the pictures of epoch {state.epoch + 1} could be read: there is nothing to train on. The log "
                "names each with its reason."
            )
        state.history["train_losses"].append(train_loss)
        self._recorder.begin_epoch(state.epoch + 1)
        self._scheduler.after_epoch()
        if budget is None or budget.validates_by_progress:
            self._recorder.tell_epoch(train_loss=train_loss, val_loss=None)
        else:
            self._pauses.at_epoch_end(train_loss)
        return train_loss
