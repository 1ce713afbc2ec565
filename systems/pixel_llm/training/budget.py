"""How long a run goes on, and how far it has come: in epochs, in steps, in minutes, or whichever of them ends first."""

from dataclasses import dataclass

from systems.pixel_llm.errors import ConfigError

__all__ = ["RunBudget"]

MAX_PAUSE_SHARE = 0.2
"""Most of a time budget that validations at its tenths may take; the one at its end comes on top."""


@dataclass(frozen=True, kw_only=True)
class RunBudget:
    """The bounds of one run. At least one of `num_epochs`, `max_steps` and `max_seconds` is set."""

    num_epochs: int | None
    steps_per_epoch: int | None
    """None where the loader does not know its length."""
    max_steps: int | None
    max_seconds: float | None
    """Training and validation together, over all resumes."""

    def __post_init__(self) -> None:
        if self.num_epochs is None and self.max_steps is None and self.max_seconds is None:
            raise ConfigError(
                "The run has no end: give num_epochs to train(), or max_steps or max_minutes to the Trainer."
            )
        if self.num_epochs is not None and self.num_epochs < 1:
            raise ConfigError(f"num_epochs must be at least 1, not {self.num_epochs}.")

    @property
    def validates_by_progress(self) -> bool:
        """Whether validation comes at tenths of the run (a bound other than epochs) instead of after each epoch."""
        return self.num_epochs is None or self.max_seconds is not None

    def total_steps(self, step: int, elapsed_seconds: float, reserved_seconds: float) -> int | None:
        """Steps at which the run will end; under a time bound the estimate from the pace so far, None before step 1."""
        bounds = []
        if self.max_steps is not None:
            bounds.append(self.max_steps)
        if self.num_epochs is not None and self.steps_per_epoch is not None:
            bounds.append(self.num_epochs * self.steps_per_epoch)
        if self.max_seconds is not None and step > 0 and elapsed_seconds > 0:
            training_seconds = self._training_seconds(reserved_seconds)
            bounds.append(max(step, int(step * training_seconds / elapsed_seconds)))
        return min(bounds, default=None)

    def progress(self, step: float, epoch: int, elapsed_seconds: float, reserved_seconds: float) -> float:
        """Share of the run done, 0..1: the largest over the bounds. A pure function, so it is the same after a resume.

        Under a time bound it follows the clock: a run that turns out faster or slower than it began simply fits more
        or fewer steps, and the learning rate still ends its descent with the budget.
        """
        shares = [0.0]
        if self.max_steps is not None:
            shares.append(step / self.max_steps)
        if self.num_epochs is not None:
            if self.steps_per_epoch:  # an empty loader is told of when its first batch is asked for
                shares.append(step / (self.num_epochs * self.steps_per_epoch))
            else:
                shares.append(epoch / self.num_epochs)
        if self.max_seconds is not None:
            shares.append(elapsed_seconds / self._training_seconds(reserved_seconds))
        return min(1.0, max(shares))

    def end_reason(self, epoch: int, step: int, elapsed_seconds: float, reserved_seconds: float) -> str | None:
        """Which bound is reached ("epochs", "max_steps", "max_minutes"), or None."""
        if self.num_epochs is not None and epoch >= self.num_epochs:
            return "epochs"
        if self.max_steps is not None and step >= self.max_steps:
            return "max_steps"
        if self.max_seconds is not None and elapsed_seconds >= self._training_seconds(reserved_seconds):
            return "max_minutes"
        return None

    def has_time_for_pause(self, elapsed_seconds: float, longest_pause: float, total_pause: float) -> bool:
        """Whether one more validation as long as the longest keeps all of them within a fifth of the time.

        Without a time bound always, so that the validations of a run bounded by steps do not depend on the clock.
        """
        if self.max_seconds is None:
            return True
        return total_pause + longest_pause <= MAX_PAUSE_SHARE * (elapsed_seconds + longest_pause)

    def _training_seconds(self, reserved_seconds: float) -> float:
        """What the budget leaves for training when the last validation and save take `reserved_seconds`."""
        assert self.max_seconds is not None
        return self.max_seconds - min(reserved_seconds, 0.25 * self.max_seconds)
