"""What a run measures and tells: losses, speed, time and progress into its state, its logs and its callbacks.

The Trainer decides what happens; the recorder knows what it came to. Losses are summed on the device and read only when
somebody looks, since reading makes a GPU wait. What is logged goes to `metrics.jsonl` and to the other logs alike.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from systems.pixel_llm.data.collate import BadPicture
from systems.pixel_llm.errors import TrainingError
from systems.pixel_llm.training.budget import RunBudget
from systems.pixel_llm.training.callbacks import Callback, Listener, listener_of, name_of
from systems.pixel_llm.training.events import (
    BadPictureEvent,
    CheckpointEvent,
    EpochEvent,
    Event,
    IntervalFigures,
    PanelEvent,
    RunEndEvent,
    RunStartEvent,
    StepEvent,
    ValidationEvent,
)
from systems.pixel_llm.training.interval import Interval
from systems.pixel_llm.training.metrics_log import MetricsLog, read_metrics
from systems.pixel_llm.training.optim import REST
from systems.pixel_llm.training.optimizer_step import StepOutcome
from systems.pixel_llm.training.outside_logs import OutsideLogs
from systems.pixel_llm.training.panel import PanelCaption
from systems.pixel_llm.training.progress import LogLines
from systems.pixel_llm.training.state import TrainState
from systems.pixel_llm.training.utilisation import Utilisation

__all__ = ["RunRecorder"]


class RunRecorder:
    """Keeps the numbers of one Trainer's state up to date, and passes them on.

    Args:
        device: where losses are.
        metrics_log: gets all that is measured.
        outside_logs: get it too.
        callbacks: the user's.
        log_interval: figures are measured every so many steps.
        max_grad_norm: longer gradients are clipped.
        utilisation: what MFU is made of, where it can be told.

    Raises:
        ConfigError: a callback is none.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        metrics_log: MetricsLog,
        outside_logs: OutsideLogs,
        callbacks: Iterable[Callback],
        log_interval: int,
        max_grad_norm: float | None,
        utilisation: Utilisation | None,
    ) -> None:
        self.metrics_log, self.log_interval = metrics_log, log_interval
        self._outside_logs, self._is_told_to_end = outside_logs, False
        self.callbacks = [listener_of(callback) for callback in callbacks]
        self.shown: list[Listener] = [LogLines()]
        """The callbacks that show the run to a person; the Trainer swaps in a progress bar for the time of a run."""
        self.budget: RunBudget | None = None
        self.state = TrainState()
        self.bad_pictures: dict[str, str] = {}
        """Path -> reason of the pictures that batches came without."""
        self.clock: Callable[[], float] = time.monotonic
        """Where the time is read, in seconds from any beginning."""
        self._last_look = self.clock()
        # In fp64, one step after the other, so that a resumed epoch gives the same sum to the last bit.
        self._epoch_loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._interval = Interval(
            device, clock=lambda: self.clock(), max_grad_norm=max_grad_norm, utilisation=utilisation
        )
        self._figures = IntervalFigures()

    # --- losses and speed ---------------------------------------------------------------------------------------------

    def restart_interval(self) -> None:
        """Begin to measure a log interval."""
        self._interval.restart()
        self._figures = IntervalFigures()

    def adopt(self, state: TrainState) -> None:
        """Go on from `state`."""
        self.state = state
        self._epoch_loss_sum.fill_(state.epoch_loss_sum)

    def begin_epoch(self, epoch: int) -> None:
        """Stand at the start of `epoch` (counted from 0)."""
        self.state.begin_epoch(epoch)
        self._epoch_loss_sum.zero_()

    def add_step(self, outcome: StepOutcome | None, *, num_batches: int) -> None:
        """Count one step on so many batches; None where they were empty. A bad one has no loss."""
        state = self.state
        if outcome is not None:
            self._interval.add(outcome)
            state.samples_seen += outcome.num_images
            if not outcome.is_bad:
                self._epoch_loss_sum += outcome.loss.double() * outcome.num_tokens
                state.epoch_num_tokens += outcome.num_tokens
        state.step += 1
        state.batch_in_epoch += num_batches

    def add_wait(self, seconds: float) -> None:
        """The loop stood still so long for its next batch."""
        self._interval.add_wait(seconds)

    def read_losses(self) -> None:
        """Bring the epoch's loss from the device into the state.

        Raises:
            TrainingError: it is no longer a finite number.
        """
        self.state.epoch_loss_sum = self._epoch_loss_sum.item()
        if not math.isfinite(self.state.epoch_loss_sum):
            raise self.divergence(f"The loss became {self.state.epoch_loss_sum}")

    def divergence(self, found: str) -> TrainingError:
        """The error for what was `found`: it cannot be trained on from here."""
        return TrainingError(
            f"{found} by step {self.state.step}: the weights have diverged. Resume from an earlier checkpoint with a "
            "lower learning_rate, a longer warm-up (warmup_fraction), or precision='fp32'."
        )

    # --- time and progress --------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """What passed until now is not part of the run."""
        self._last_look = self.clock()

    def tick(self) -> None:
        """Add the time since the last look to the run's."""
        now = self.clock()
        self.state.elapsed_seconds += now - self._last_look
        self._last_look = now

    def add_pause(self, seconds: float) -> None:
        """A validation and what followed took so long: no part of the speed; time to keep free at a budget's end."""
        self.state.pause_seconds = max(self.state.pause_seconds, seconds)
        self.state.total_pause_seconds += seconds
        self._interval.leave_out(seconds)

    def leave_out(self, seconds: float) -> None:
        """A save between validations took so long: time of the run, and no part of the speed."""
        self._interval.leave_out(seconds)

    def begin_run(self, budget: RunBudget) -> None:
        """Work towards `budget` from here. Of a longer run than the one before, a smaller share is done."""
        self.budget = budget
        self.advance_progress(step=self.state.step)
        self.state.num_tenths_past = min(self.state.num_tenths_past, self.num_tenths)

    def advance_progress(self, *, step: float) -> float:
        """Bring the share of the run done up to `step` and the time spent. 0 without a budget."""
        state = self.state
        if self.budget is not None:
            state.progress = self.budget.progress(step, state.epoch, state.elapsed_seconds, state.pause_seconds)
        return state.progress

    @property
    def num_tenths(self) -> int:
        """Whole tenths of the run that are done."""
        return math.floor(10 * self.state.progress + 1e-9)

    def has_time_for_pause(self) -> bool:
        """Whether the budget leaves time to validate and save before its end."""
        state = self.state
        if self.budget is None:
            return True
        return self.budget.has_time_for_pause(state.elapsed_seconds, state.pause_seconds, state.total_pause_seconds)

    def end_reason(self) -> str | None:
        """The bound of the budget that is reached, or None."""
        state = self.state
        if self.budget is None:
            return None
        return self.budget.end_reason(state.epoch, state.step, state.elapsed_seconds, state.pause_seconds)

    # --- telling ------------------------------------------------------------------------------------------------------

    def tell_start(self, **facts: Any) -> None:
        """The run begins or resumes here; `facts` about it are logged."""
        self.restart_interval()
        self._is_told_to_end = False
        self._outside_logs.begin(step=self.state.step)
        self._log("start", **facts)
        self._emit(RunStartEvent)

    def tell_step(self, *, learning_rates: Mapping[str, float]) -> None:
        """A step is done, at these rates (of `learning_rates_of`); every `log_interval` steps its figures are measured
        and logged.
        """
        self.tick()
        self.advance_progress(step=self.state.step)
        of_parts = {part: rate for part, rate in learning_rates.items() if part != REST}
        rates: dict[str, Any] = {"learning_rate": learning_rates[REST]}
        if of_parts:
            rates["learning_rates"] = MappingProxyType(of_parts)
        # An interval of nothing but empty batches has no loss to tell: it goes on.
        is_logged = self.state.step % self.log_interval == 0 and not self._interval.is_empty
        if is_logged:
            self.read_losses()
            self._figures = self._interval.figures()
            self._log("train", **self._figures.known(), **rates)
        self._emit(StepEvent, is_logged=is_logged, **self._figures.known(), **rates)

    def tell_bad_pictures(self, bad_pictures: Iterable[BadPicture]) -> None:
        """A batch came without these: each is told when it is first met."""
        for bad in bad_pictures:
            if bad.path not in self.bad_pictures:
                self.bad_pictures[bad.path] = bad.reason
                self._emit(BadPictureEvent, path=bad.path, reason=bad.reason)

    def tell_validation(
        self, loss: float, scores: Mapping[str, float], *, shuffled_loss_gap: float | None, metric_name: str
    ) -> None:
        """Validation is done: into the history, the log, and to the callbacks.

        `scores` are those of captions, if any were made; `metric_name` is what best is judged by.
        """
        state, history = self.state, self.state.history
        if metric_name == "val_loss":
            # A loss that is no number is neither the best nor in the way of others.
            is_best = loss < min(filter(math.isfinite, history["val_losses"]), default=math.inf)
        else:
            is_best = metric_name in scores and scores[metric_name] > max(history[metric_name], default=-math.inf)
        history["val_losses"].append(loss)
        history["val_steps"].append(state.step)
        if scores:
            history["score_steps"].append(state.step)
        for name, score in scores.items():
            history.setdefault(name, []).append(score)
        self.tick()
        measured: dict[str, Any] = {} if shuffled_loss_gap is None else {"shuffled_loss_gap": shuffled_loss_gap}
        if scores:
            measured["scores"] = dict(scores)
        self._log("validation", loss=loss, **measured)
        self._emit(
            ValidationEvent, loss=loss, scores=MappingProxyType(dict(scores)), shuffled_loss_gap=shuffled_loss_gap,
            is_best=is_best,
        )  # fmt: skip

    def tell_panel(self, captions: Sequence[PanelCaption]) -> None:
        """The model has captioned the panel, beside a validation."""
        if captions:
            self._outside_logs.add_captions(captions, step=self.state.step)
            self._emit(PanelEvent, captions=tuple(captions))

    def tell_epoch(self, *, train_loss: float, val_loss: float | None) -> None:
        """An epoch is complete."""
        self._log("epoch", train_loss=train_loss, val_loss=val_loss)
        self._emit(EpochEvent, train_loss=train_loss, val_loss=val_loss)

    def tell_checkpoint(self, path: Path) -> None:
        """A checkpoint is on disk."""
        self._emit(CheckpointEvent, path=path)

    def tell_end(self, reason: str) -> None:
        """The run is over."""
        self.tick()
        self._log("end", reason=reason)
        self._emit(RunEndEvent, reason=reason)
        self._is_told_to_end = True

    def note_end(self, reason: str) -> None:
        """The run was over before it began: the log says so too, even if a kill came right after the last save."""
        path = self.metrics_log.path
        records = read_metrics(path) if path.is_file() else []
        if records and records[-1]["kind"] != "end":
            self._log("end", reason=reason)

    def end_run(self) -> None:
        """Whatever ended it, nothing more comes: let go of what was there for this run alone."""
        self._outside_logs.end(is_complete=self._is_told_to_end)
        self.shown, self.budget = [LogLines()], None

    def _log(self, kind: str, **values: Any) -> None:
        state = self.state
        position = {"step": state.step, "epoch": state.epoch, "elapsed_seconds": round(state.elapsed_seconds, 3)}
        self.metrics_log.append(kind, position | values)
        self._outside_logs.add(kind, values, step=state.step)

    def _emit(self, kind: type[Event], **fields: Any) -> None:
        state, budget = self.state, self.budget
        total = num_epochs = None
        if budget is not None:
            total = budget.total_steps(state.step, state.elapsed_seconds, state.pause_seconds)
            num_epochs = budget.num_epochs
        event = kind(
            epoch=state.epoch, step=state.step, elapsed_seconds=state.elapsed_seconds, progress=state.progress,
            total_steps=total, num_epochs=num_epochs, samples_seen=state.samples_seen, **fields,
        )  # fmt: skip
        for listener in (*self.shown, *self.callbacks):
            try:
                listener(event)
            except Exception as error:
                error.add_note(f"Raised in the callback {name_of(listener)}, given a {kind.__name__}.")
                raise
