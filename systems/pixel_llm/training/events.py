"""What the Trainer tells its callbacks: one small record an event, which also says where the run stands.

A callback is any callable that takes an event, or an object with methods for some of them (`callbacks.py`). The
progress bar, the log lines and the command line's sample captions are such callables; none of them is known to the
Trainer. Events cannot be changed: what a callback wants of a run it asks of the Trainer (`request_stop`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from systems.pixel_llm.training.panel import PanelCaption

__all__ = [
    "BadPictureEvent",
    "CheckpointEvent",
    "EpochEvent",
    "Event",
    "IntervalFigures",
    "PanelEvent",
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
    samples_seen: int
    """Pictures trained on, each time that one came."""


@dataclass(frozen=True, kw_only=True)
class RunStartEvent(Event):
    """`train` begins or resumes."""


@dataclass(frozen=True, kw_only=True)
class IntervalFigures:
    """What the steps of a log interval came to; None where it is not known."""

    loss: float | None = None
    """Mean over tokens, nats a token."""
    gradient_norm: float | None = None
    """Mean over steps, before clipping."""
    clipped_share: float | None = None
    """Of the steps, those whose gradient was longer than `max_grad_norm`."""
    tokens_per_second: float | None = None
    """Those with a target, so without padding."""
    images_per_second: float | None = None
    captions_per_second: float | None = None
    data_wait_share: float | None = None
    """Of the time, what the loop stood still for its next batch."""
    gpu_memory_bytes: int | None = None
    """The most that was allocated on the GPU since the interval before."""
    process_memory_bytes: int | None = None
    """Where there is no GPU: what the process holds now, without those that load pictures (on Linux)."""
    mfu: float | None = None
    """Model FLOPs utilisation, 0 to 1, where the GPU's peak is known; see `utilisation.py`."""

    def known(self) -> dict[str, Any]:
        """Name -> figure, without those that are not known."""
        return {each.name: value for each in fields(IntervalFigures) if (value := getattr(self, each.name)) is not None}


@dataclass(frozen=True, kw_only=True)
class StepEvent(Event, IntervalFigures):
    """One optimizer step is done. The figures are those of the last log interval that is complete, new when
    `is_logged`; None before the first.
    """

    is_logged: bool
    learning_rate: float
    """Of all that has no rate of its own."""
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """Of the parts that have one, by name; of an optimizer of the user's by group: group_1, ..."""


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
class PanelEvent(Event):
    """The model has captioned the panel, the same few pictures beside each validation."""

    captions: tuple[PanelCaption, ...]


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
    """epochs, max_steps, max_minutes, early_stopping, or interrupted."""
