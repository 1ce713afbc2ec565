"""What a run does between its steps: validate and save where they are due, and come to its end.

A run bounded by epochs pauses at the end of each; one bounded by steps or minutes at each tenth of it.
"""

import logging
from collections.abc import Callable

from systems.pixel_llm.training.early_stopping import is_out_of_patience
from systems.pixel_llm.training.judging import Judging
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.recorder import RunRecorder
from systems.pixel_llm.training.run_checkpoints import RunCheckpoints
from systems.pixel_llm.training.torch_scheduler import TorchScheduler
from systems.pixel_llm.training.validation import Validation

__all__ = ["Pauses"]

logger = logging.getLogger(__name__)


class Pauses:
    """Decides for one run when it pauses and why it ends.

    Args:
        options: of the training.
        checkpoint_interval: save every so many epochs.
        num_batches: gives the batches of an epoch, None where the loader does not know.
        recorder: has the state and the budget, and is told.
        validation: measures.
        checkpoints: saves.
        scheduler: the user's, if any.
        judging: what early stopping looks at.
        is_stopped: whether the run was asked to stop.
    """

    def __init__(
        self,
        options: TrainingOptions,
        *,
        checkpoint_interval: int,
        num_batches: Callable[[], int | None],
        recorder: RunRecorder,
        validation: Validation,
        checkpoints: RunCheckpoints,
        scheduler: TorchScheduler,
        judging: Judging,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._options, self._num_batches = options, num_batches
        self.checkpoint_interval = checkpoint_interval
        self._recorder, self._validation, self._checkpoints = recorder, validation, checkpoints
        self._scheduler, self._judging, self._is_stopped = scheduler, judging, is_stopped

    def end_reason(self) -> str | None:
        """Why the run ends here, or None where it goes on."""
        if self._is_stopped():
            return "interrupted"
        return self._recorder.end_reason() or ("early_stopping" if self._is_out_of_patience() else None)

    def _is_out_of_patience(self) -> bool:
        patience = self._options.early_stopping_patience
        return patience is not None and is_out_of_patience(
            self._recorder.state.history[self._judging.history_name],
            mode=self._judging.metric_mode,
            patience=patience,
            min_delta=self._options.early_stopping_min_delta,
        )

    def at_tenths(self) -> None:
        """In a run bounded by steps or minutes: validate and save at each tenth of it, as far as time allows."""
        budget, state = self._recorder.budget, self._recorder.state
        if budget is None or not budget.validates_by_progress:
            return
        num_tenths = self._recorder.num_tenths
        if state.num_tenths_past < num_tenths < 10:
            state.num_tenths_past = num_tenths
            if not self._recorder.has_time_for_pause():
                logger.debug("Validation left out here: it takes long against the time budget.")
                return
            self._pause(f"step_{state.step}", train_loss=None)

    def save_at_steps(self) -> None:
        """Where `save_every_steps` says so, or a while after a save that failed, unless this very step is saved
        already, or right away as an end.
        """
        self._checkpoints.look_after()
        every, step = self._options.save_every_steps, self._recorder.state.step
        is_due = (every is not None and step % every == 0) or self._checkpoints.is_retry_due
        if not is_due or self._checkpoints.is_saved:
            return
        if self.end_reason() is not None or self._is_epoch_end_saved():
            return
        started = self._recorder.clock()
        self._checkpoints.save_between(f"step_{step}")
        self._recorder.leave_out(self._recorder.clock() - started)

    def _is_epoch_end_saved(self) -> bool:
        """Whether the epoch is at its last batch, and a checkpoint comes with its end."""
        state, budget = self._recorder.state, self._recorder.budget
        if budget is None or state.batch_in_epoch != self._num_batches():
            return False
        is_interval = not budget.validates_by_progress and (state.epoch + 1) % self.checkpoint_interval == 0
        return is_interval or state.epoch + 1 == budget.num_epochs

    def at_epoch_end(self, train_loss: float) -> None:
        """An epoch is complete: validate and, at every so many, save."""
        epoch = self._recorder.state.epoch
        is_saved = epoch % self.checkpoint_interval == 0
        self._pause(f"epoch_{epoch}" if is_saved else None, train_loss=train_loss)

    def _pause(self, checkpoint_name: str | None, *, train_loss: float | None) -> None:
        """Validate and, given a name, save. `train_loss` is that of an epoch that is complete."""
        started = self._recorder.clock()
        self._recorder.state.is_validation_due = self._validation.has_data
        val_loss = self._validate_and_record()
        if train_loss is not None:  # before the save: a run killed right after it begins behind this epoch
            self._recorder.tell_epoch(train_loss=train_loss, val_loss=val_loss)
        if checkpoint_name is not None:
            self._checkpoints.save_in_passing(checkpoint_name, train_loss=train_loss)
        self._recorder.tick()
        self._recorder.add_pause(self._recorder.clock() - started)

    def make_up_for_validation(self) -> None:
        """The validation that a stop cut short, and its checkpoint: the one that there is has no metric."""
        budget, state = self._recorder.budget, self._recorder.state
        if state.batch_in_epoch == 0 and budget is not None and not budget.validates_by_progress:
            self.at_epoch_end(state.history["train_losses"][-1])
        else:
            self._pause(f"step_{state.step}", train_loss=None)

    def _validate_and_record(self) -> float | None:
        self._recorder.read_losses()
        found = self._validation.measure(self._recorder.state, is_last=self.end_reason() is not None)
        if found is None:
            return None
        self._recorder.state.is_validation_due = False
        self._scheduler.after_validation(found.loss)
        self._recorder.tell_validation(
            found.loss, found.scores,
            shuffled_loss_gap=found.shuffled_loss_gap, metric_name=self._judging.metric_name,
        )  # fmt: skip
        self._recorder.tell_panel(found.captions)
        return found.loss

    def finish(self, reason: str) -> None:
        """The last validation and checkpoint, whatever ended the run."""
        state = self._recorder.state
        self._recorder.advance_progress(step=state.step)
        self._checkpoints.look_after(wait=True)
        if not self._checkpoints.is_saved:
            is_epoch_end = state.batch_in_epoch == 0
            train_loss = state.history["train_losses"][-1] if is_epoch_end else None
            if reason != "interrupted" and state.history["val_steps"][-1:] != [state.step]:
                self._validate_and_record()
            name = f"epoch_{state.epoch}" if is_epoch_end else f"step_{state.step}"
            self._checkpoints.save_end(name, train_loss=train_loss)
        self._recorder.tell_end(reason)
