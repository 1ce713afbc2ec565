"""What the Trainer tells its callbacks: one small record an event. A callback is any callable that takes an event.

The progress bar, the log lines and the command line's sample captions are such callables; none of them is known to the
Trainer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "BadPictureEvent",
    "Callback",
    "CheckpointEvent",
    "EpochEvent",
    "Event",
    "RunEndEvent",
    "RunStartEvent",
    "StepEvent",
    "ValidationEvent",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Where the run stands: completed epochs and optimizer steps, seconds spent, share of the run done."""

    epoch: int
    step: int
    elapsed_seconds: float
    """Training and validation time over all resumes."""
    progress: float
    """0 at the start, 1 at the end; 0 throughout where no end is known (`_train_epoch` called by itself)."""
    total_steps: int | None
    """Steps at which the run will end, as known or estimated now."""
    num_epochs: int | None
    """Epochs at which the run will end, if it was given in epochs."""


@dataclass(frozen=True, kw_only=True)
class RunStartEvent(Event):
    """`train` begins or resumes."""


@dataclass(frozen=True, kw_only=True)
class StepEvent(Event):
    """One optimizer step is done. The numbers are those of the last `log_interval` steps, new when `is_logged`."""

    is_logged: bool
    loss: float | None
    """Mean over tokens, nats; None before the first log interval has passed."""
    learning_rate: float
    images_per_second: float | None
    data_wait_share: float | None
    """Of the time, what the loop stood still for its next batch."""


@dataclass(frozen=True, kw_only=True)
class BadPictureEvent(Event):
    """A picture could not be read and is left out of its batch; told once a picture."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ValidationEvent(Event):
    """Validation is done."""

    loss: float
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of captions, where they were scored beside this validation: `cider_d`, `distinct_captions`."""
    shuffled_loss_gap: float | None = None
    """By how much the loss a token rises when captions are shown other pictures, nats: about 0 for a model that ignores
    its pictures."""
    is_best: bool
    """Better than every validation before, by the run's metric."""


@dataclass(frozen=True, kw_only=True)
class EpochEvent(Event):
    """An epoch is complete (`epoch` counts it)."""

    train_loss: float
    val_loss: float | None


@dataclass(frozen=True, kw_only=True)
class CheckpointEvent(Event):
    """A checkpoint is on disk."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class RunEndEvent(Event):
    """`train` ends."""

    reason: str
    """epochs, max_steps, max_minutes, or interrupted."""


Callback = Callable[[Event], None]
