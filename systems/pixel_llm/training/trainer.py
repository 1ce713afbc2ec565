"""The training loop, readable from top to bottom: `train` -> `_train_epoch` -> `train_step`, with `validate` between.

`train` goes on epoch after epoch until the budget ends (`budget.py`). An epoch takes its batches in an order that
follows from (seed, epoch) (`batches.py`); a step turns captions into ids, computes logits where a target exists, and
minimises the mean loss over those tokens. Where the run stands is one object (`state.py`), saved with the weights, so a
resumed run goes on at the very next batch; one of which no picture could be read counts as done. What is measured and
told goes through `recorder.py`.
"""

import logging
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import ConfigError, DatasetError, PixelLLMError, TrainingError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.models.precision import resolve_precision
from systems.pixel_llm.seeding import derive_seed
from systems.pixel_llm.tokenizer import TokenBatch
from systems.pixel_llm.training.batch_content import bad_pictures_of_batch, captions_of_batch, image_index_of_batch
from systems.pixel_llm.training.batches import EpochBatches
from systems.pixel_llm.training.budget import RunBudget
from systems.pixel_llm.training.checkpoint import CheckpointManager
from systems.pixel_llm.training.events import Callback
from systems.pixel_llm.training.interruption import deferred_interrupt
from systems.pixel_llm.training.judging import Judging, Scorer
from systems.pixel_llm.training.loss import in_full_precision, loss_of_training
from systems.pixel_llm.training.metrics_log import MetricsLog
from systems.pixel_llm.training.optim import learning_rate_factor, make_optimizer, scale_learning_rate
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.precision import autocast_context
from systems.pixel_llm.training.progress import LogLines, shown_progress
from systems.pixel_llm.training.recorder import RunRecorder
from systems.pixel_llm.training.state import History, TrainState
from systems.pixel_llm.training.vocabulary import prepare_vocabulary

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
            learning rate is left alone unless the option `schedule` is set.
        loss_fn: called as `loss_fn(predictions [N, V], targets [N])` with the supervised positions only, in fp32; taken
            to be a mean over them. A module is in eval mode while validating. Left out: `CaptionLoss`.
        device: where to train. Left out: the model's device, or the GPU where there is one and the model is on the CPU.
        checkpoint_dir: where checkpoints go, one folder each.
        checkpoint_interval: save every so many epochs. (A run bounded by steps or minutes saves at each validation.)
        log_interval: report every so many steps.
        metrics_file: the log of measurements, one JSON object a line; `checkpoint_dir/metrics.jsonl` if left out.
        callbacks: callables that are given each event of `systems.pixel_llm.training.events`.
        scorer: scores captions of a few pictures beside validations (`systems.pixel_llm.training.judging.Scorer`); the
            best checkpoint follows it unless the option `metric` says otherwise.
        options: a `TrainingOptions`; single settings may be given by name instead or on top.
        **settings: the fields of `TrainingOptions`, such as `learning_rate`, `precision`, `seed`, `max_minutes`.

    Raises:
        ConfigError: a setting is unknown or out of range, or the model is not a PixelLLM.
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
        scorer: Scorer | None = None,
        options: TrainingOptions | None = None,
        **settings: Any,
    ) -> None:
        self.options = (options or TrainingOptions()).replaced(**settings)
        for name, value in (("checkpoint_interval", checkpoint_interval), ("log_interval", log_interval)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}.")
        self._captioner = _captioner_in(model)
        self.device = _choose_device(device, model)
        self.model = model.to(self.device)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.loss_fn = loss_of_training(
            loss_fn,
            label_smoothing=self.options.label_smoothing,
            target_ids=lambda: self._captioner.tokenizer.target_ids,
        )
        if isinstance(self.loss_fn, nn.Module):
            self.loss_fn.to(self.device)
        self._owns_optimizer = optimizer is None
        self.optimizer: torch.optim.Optimizer = optimizer or make_optimizer(
            model, learning_rate=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        self.schedule = self.options.schedule or ("cosine" if self._owns_optimizer else None)
        self.precision = resolve_precision(self.options.precision, self.device)
        self.checkpoint_interval = checkpoint_interval
        self.judging = Judging(self.options, scorer, has_validation=val_loader is not None)
        self.checkpoint_manager = CheckpointManager(
            checkpoint_dir, max_checkpoints=self.options.max_checkpoints, metric_mode=self.judging.metric_mode
        )
        self.stop_reason: str | None = None
        """Why the last `train` ended: epochs, max_steps, max_minutes or interrupted."""

        self._train_batches = EpochBatches(train_loader, seed=self.options.seed)
        self._val_batches = None
        if val_loader is not None:
            self._val_batches = EpochBatches(val_loader, seed=self.options.seed, beside=train_loader)
        metrics_log = MetricsLog(Path(metrics_file or Path(checkpoint_dir) / "metrics.jsonl"))
        self._recorder = RunRecorder(
            self.device, metrics_log=metrics_log, callbacks=callbacks, log_interval=log_interval
        )
        self._is_prepared = False
        self._is_stop_requested = False
        self._saved_step = 0

    @property
    def state(self) -> TrainState:
        """Where the run stands."""
        return self._recorder.state

    @property
    def bad_pictures(self) -> dict[str, str]:
        """Path -> reason of the pictures that could not be read and were left out, in the order they were met."""
        return dict(self._recorder.bad_pictures)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self, num_epochs: int | None = None, start_epoch: int = 0, resume_from: str | None = None) -> History:
        """Train until `num_epochs` epochs are complete in total, or another bound of the options is reached.

        Called again, it goes on from where it is. Ctrl-C finishes the step, saves a checkpoint and then raises
        KeyboardInterrupt; an error saves what is learned so far before it is raised.

        Args:
            num_epochs: epochs in total, those before a resume included. May be left out with `max_steps` or
                `max_minutes`.
            start_epoch: completed epochs to start from; 0 takes what the checkpoint says, any other value must agree.
            resume_from: name of a checkpoint in `checkpoint_dir` to continue.

        Returns:
            `{"train_losses": one an epoch, "val_losses": one a validation, "val_steps": the steps of those}`, and where
            captions were scored "cider_d" and "score_steps" likewise.

        Raises:
            ConfigError: no bound is given, or `start_epoch` differs from the checkpoint's epoch.
            CheckpointError: `resume_from` is missing, damaged or does not fit the model.
            DatasetError: a loader gives no batch, a picture cannot be read and the dataset does not skip such, or none
                of an epoch can.
            TrainingError: the loss is not a finite number.
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
            steps_per_epoch=self._train_batches.num_batches,
            max_steps=self.options.max_steps,
            max_seconds=None if max_minutes is None else 60 * max_minutes,
        )
        self._recorder.begin_run(budget)
        self.stop_reason = None
        try:
            self._prepare()
            with shown_progress(self.options.progress) as shown, deferred_interrupt(self.request_stop):
                self._recorder.shown = shown
                self._run()
        finally:
            self._recorder.shown, self._recorder.budget = [LogLines()], None
            self._is_stop_requested = False
        return self.get_history()

    def _run(self) -> None:
        self._recorder.start_clock()
        if (reason := self._end_reason()) is not None:
            logger.info("Nothing to do: the run is at its end already (%s).", reason)
            self.stop_reason = reason
            return
        self._recorder.tell_start(
            precision=self.precision,
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
        )
        try:
            if self.state.is_validation_due:
                self._validate_and_record()
            while (reason := self._end_reason()) is None:
                self._train_epoch(self.state.epoch)
            self._finish(reason)
        except TrainingError:
            raise  # what is in the weights now is not worth keeping
        except Exception:
            self._save_before_raising()
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
        while (batch := self._next_batch(batches)) is not None:
            if captions_of_batch(batch):
                self.train_step(batch)
            else:
                self._recorder.pass_batch()
            self._recorder.tell_step(learning_rate=self.optimizer.param_groups[0]["lr"])
            self._pause_at_tenths()
            if state.batch_in_epoch != self._train_batches.num_batches and self._end_reason() is not None:
                return None
        if self._is_stop_requested and state.batch_in_epoch != self._train_batches.num_batches:
            return None
        return self._complete_epoch()

    def train_step(self, batch: Any) -> Tensor:
        """One optimizer step on one batch.

        Returns:
            The batch's loss before the step, a detached scalar on the device.
        """
        self._prepare()
        captions = captions_of_batch(batch)
        tokens = self._captioner.encode_captions(captions)
        self._set_learning_rate()
        # Dropout draws from a generator seeded by the step: a resumed run drops what the unbroken one would have.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive_seed("step", self.options.seed, self.state.step))
            loss = self._loss(batch, tokens)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self.options.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
        self.optimizer.step()
        loss = loss.detach()
        self._recorder.add_step(
            loss, num_tokens=len(tokens.supervised), num_images=len(batch["images"]), num_captions=len(captions)
        )
        return loss

    def validate(self) -> float | None:
        """Mean loss over all tokens of `val_loader`, in nats: the same for every batch size and order.

        Returns:
            None where there is no `val_loader`, a stop was requested before the end, or no picture could be read.
        """
        if self._val_batches is None:
            return None
        self._prepare()
        # The loss has a mode too: label smoothing is for training.
        modes = [(each, each.training) for each in (self.model, self.loss_fn) if isinstance(each, nn.Module)]
        for module, _ in modes:
            module.eval()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        num_tokens = 0
        try:
            with torch.no_grad():
                batches = self._val_batches.epoch(0)
                while (batch := self._next_batch(batches)) is not None:
                    if self._is_stop_requested:
                        break
                    if captions := captions_of_batch(batch):
                        tokens = self._captioner.encode_captions(captions)
                        loss_sum += self._loss(batch, tokens).double() * len(tokens.supervised)
                        num_tokens += len(tokens.supervised)
        finally:
            for module, was_training in modes:
                module.train(was_training)
        return None if self._is_stop_requested or num_tokens == 0 else loss_sum.item() / num_tokens

    def _loss(self, batch: Any, tokens: TokenBatch) -> Tensor:
        """The mean loss over the supervised positions of one batch; logits are computed only there."""
        tokens = tokens.to(self.device)
        images = batch["images"].to(self.device, non_blocking=True)
        image_index = image_index_of_batch(batch)
        which = {} if image_index is None else {"image_index": image_index.to(self.device, non_blocking=True)}
        with autocast_context(self.precision, self.device):
            predictions = self.model(images, tokens.input_ids, positions=tokens.supervised, **which)
        return self.loss_fn(in_full_precision(predictions), tokens.targets.flatten()[tokens.supervised])

    # --- what a person asks for ---------------------------------------------------------------------------------------

    def resume(self, checkpoint_name: str | None = None) -> dict[str, Any]:
        """Take weights, optimizer and place in the run from a checkpoint; without a name from the newest good one.

        Returns:
            What `CheckpointManager.load` returns.
        """
        manager, model, optimizer = self.checkpoint_manager, self.model, self.optimizer
        if checkpoint_name is None:
            info = manager.load_latest(model=model, optimizer=optimizer, device=self.device)
        else:
            info = manager.load(checkpoint_name, model=model, optimizer=optimizer, device=self.device)
        manager.protect(info["name"])
        saved = info["training_state"]
        if saved is None:  # saved by hand: its epoch number is all there is
            steps_per_epoch = self._train_batches.num_batches or 0
            self._recorder.adopt(TrainState(epoch=info["epoch"], step=info["epoch"] * steps_per_epoch))
        else:
            self._recorder.adopt(TrainState.from_dict(saved["state"]))
            if saved["seed"] != self.options.seed:
                logger.warning(
                    "seed=%d differs from the checkpoint's seed=%d: the order of pictures changes from here on.",
                    self.options.seed, saved["seed"],
                )  # fmt: skip
        if self._owns_optimizer:
            # The options are where these two are written; the checkpoint holds the rate of one moment of the schedule.
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] = self.options.learning_rate
                group["weight_decay"] = self.options.weight_decay if group["weight_decay"] > 0 else 0.0
        self._saved_step = self.state.step
        return info

    def request_stop(self) -> None:
        """Ask `train` to finish its step, save and return; asked before, it returns at once.

        Safe in a signal handler or another thread.
        """
        self._is_stop_requested = True

    def save_checkpoint(self, name: str) -> Path:
        """Save a checkpoint that is never pruned, and return its folder."""
        return self._save(name, keep=True)

    def get_history(self) -> History:
        """A copy of the losses so far: `train_losses` one an epoch, `val_losses` one a validation, and `val_steps`."""
        return deepcopy(self.state.history)

    # --- between the steps --------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Once, before the first step: fit the tokenizer, check the captions' lengths, take over the preprocessing."""
        if self._is_prepared:
            return
        prepare_vocabulary(self._captioner, self.train_loader, self.optimizer)
        preprocessing = getattr(getattr(self.train_loader, "dataset", None), "preprocessing", None)
        if preprocessing is not None:
            self._captioner.preprocessing = preprocessing
        self._is_prepared = True

    def _set_learning_rate(self) -> None:
        if self.schedule is None or self._recorder.budget is None:
            return
        # The middle of the step, so that neither the first nor the last step has a rate of 0.
        progress = self._recorder.advance_progress(step=self.state.step + 0.5)
        warmup_fraction = self.options.warmup_fraction
        factor = learning_rate_factor(progress, schedule=self.schedule, warmup_fraction=warmup_fraction)
        scale_learning_rate(self.optimizer, factor)

    def _next_batch(self, batches: Any) -> Any:
        started = self._recorder.clock()
        try:
            batch = next(batches, None)
        except (RuntimeError, OSError):
            # A signal sent to the whole process group ends the loader's workers too: that is no error of its own.
            if self._is_stop_requested:
                return None
            raise
        self._recorder.add_wait(self._recorder.clock() - started)
        self._recorder.tell_bad_pictures(bad_pictures_of_batch(batch))
        return batch

    def _end_reason(self) -> str | None:
        return "interrupted" if self._is_stop_requested else self._recorder.end_reason()

    def _pause_at_tenths(self) -> None:
        """In a run bounded by steps or minutes: validate and save at each tenth of it, as far as time allows."""
        budget, state = self._recorder.budget, self.state
        if budget is None or not budget.validates_by_progress:
            return
        num_tenths = self._recorder.num_tenths
        if state.num_tenths_past < num_tenths < 10:
            state.num_tenths_past = num_tenths
            if not self._recorder.has_time_for_pause():
                logger.debug("Validation left out here: it takes long against the time budget.")
                return
            self._pause(f"step_{state.step}", train_loss=None)

    def _complete_epoch(self) -> float:
        state, budget = self.state, self._recorder.budget
        self._recorder.read_losses()
        train_loss = state.mean_epoch_loss
        if train_loss is None:
            raise DatasetError(
                f"None of the pictures of epoch {state.epoch + 1} could be read: there is nothing to train on. The log "
                "names each with its reason."
            )
        state.history["train_losses"].append(train_loss)
        self._recorder.begin_epoch(state.epoch + 1)
        val_loss = None
        if budget is not None and not budget.validates_by_progress:
            is_saved = state.epoch % self.checkpoint_interval == 0
            val_loss = self._pause(f"epoch_{state.epoch}" if is_saved else None, train_loss=train_loss)
        self._recorder.tell_epoch(train_loss=train_loss, val_loss=val_loss)
        return train_loss

    def _pause(self, checkpoint_name: str | None, *, train_loss: float | None) -> float | None:
        """Validate and, given a name, save."""
        started = self._recorder.clock()
        self.state.is_validation_due = self._val_batches is not None
        val_loss = self._validate_and_record()
        if checkpoint_name is not None:
            self._save(checkpoint_name, train_loss=train_loss)
        self._recorder.tick()
        self._recorder.add_pause(self._recorder.clock() - started)
        return val_loss

    def _validate_and_record(self) -> float | None:
        self._recorder.read_losses()
        val_loss = self.validate()
        scores = None if val_loss is None else self._score_captions()
        if val_loss is None or scores is None:
            return None
        self.state.is_validation_due = False
        self._recorder.tell_validation(val_loss, scores, metric_name=self.judging.metric_name)
        return val_loss

    def _score_captions(self) -> Mapping[str, float] | None:
        """What captions score now, nothing where they are not due; None where a stop was requested meanwhile."""
        scorer, number = self.judging.scorer, len(self.state.history["val_losses"]) + 1
        if scorer is None or not self.judging.is_due(number, is_last=self._end_reason() is not None):
            return {}
        return scorer(self._captioner, lambda: self._is_stop_requested)

    def _metric(self, train_loss: float | None) -> float | None:
        """What the checkpoint of this very step is judged by; None where it was not measured at this step."""
        history, name = self.state.history, self.judging.metric_name
        if name == "train_loss":
            return train_loss
        values, steps = ("val_losses", "val_steps") if name == "val_loss" else (name, "score_steps")
        return history[values][-1] if history[steps][-1:] == [self.state.step] else None

    def _finish(self, reason: str) -> None:
        """The last validation and checkpoint, whatever ended the run."""
        state = self.state
        self.stop_reason = reason
        self._recorder.advance_progress(step=state.step)
        if state.step != self._saved_step:
            is_epoch_end = state.batch_in_epoch == 0
            train_loss = state.history["train_losses"][-1] if is_epoch_end else None
            if reason != "interrupted" and state.history["val_steps"][-1:] != [state.step]:
                self._validate_and_record()
            self._save(f"epoch_{state.epoch}" if is_epoch_end else f"step_{state.step}", train_loss=train_loss)
        self._recorder.tell_end(reason)

    def _save_before_raising(self) -> None:
        """An error ends the run: keep what is learned. A failure to save must not hide that error."""
        if self.state.step == self._saved_step:
            return
        try:
            path = self._save(f"step_{self.state.step}")
            logger.warning("Stopped by an error; what was learned up to step %d is in %s.", self.state.step, path)
        except (PixelLLMError, OSError) as error:
            logger.warning("Stopped by an error, and no checkpoint could be saved: %s", error)

    def _save(self, name: str, *, train_loss: float | None = None, keep: bool = False) -> Path:
        self._recorder.read_losses()
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._recorder.divergence("A weight became infinite or NaN")
        path = self.checkpoint_manager.save(
            checkpoint_name=name,
            model=self.model,
            optimizer=self.optimizer,
            epoch=self.state.epoch,
            metric=None if keep else self._metric(train_loss),
            metric_name=self.judging.metric_name,
            keep=keep,
            training_state={"state": self.state.to_dict(), "seed": self.options.seed},
        )
        if not keep:  # a checkpoint by hand does not stand in for the run's own, which has a metric
            self._saved_step = self.state.step
        self._recorder.tell_checkpoint(path)
        return path


def _captioner_in(model: nn.Module) -> PixelLLM:
    """The PixelLLM inside a compiled or distributed wrapper."""
    inner = model
    while not isinstance(inner, PixelLLM):
        wrapped = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if not isinstance(wrapped, nn.Module):
            raise ConfigError(
                f"Trainer trains a PixelLLM (create_pixel_llm makes one), not a {type(model).__name__}. For other "
                "models use CheckpointManager, CaptionLoss and MetricsTracker in a loop of your own."
            )
        inner = wrapped
    return inner


def _choose_device(device: torch.device | str | None, model: nn.Module) -> torch.device:
    if device is not None:
        return torch.device(device)
    current = next(model.parameters()).device
    if current.type == "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return current
