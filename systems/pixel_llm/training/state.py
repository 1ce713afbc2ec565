"""All that it takes to continue a run, apart from the weights and the optimizer: one object, saved as JSON."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from systems.pixel_llm.errors import CheckpointError

__all__ = ["History", "TrainState"]

History = dict[str, list[float]]


def _empty_history() -> History:
    names = ("train_losses", "val_losses", "val_steps", "cider_d", "distinct_captions", "score_steps")
    return {name: [] for name in names}


@dataclass(kw_only=True)
class TrainState:
    """Where a run stands. Order, caption choice and dropout follow from (seed, epoch, step): no generator is here."""

    epoch: int = 0
    """Completed epochs."""
    batch_in_epoch: int = 0
    """Batches of the current epoch that are done."""
    step: int = 0
    """Optimizer steps, counting those passed over: no picture could be read, or the loss was no number."""
    samples_seen: int = 0
    elapsed_seconds: float = 0.0
    """Training and validation, over all resumes."""
    pause_seconds: float = 0.0
    """The longest pause so far for a validation and what follows it: kept free at the end of a time budget."""
    total_pause_seconds: float = 0.0
    """All such pauses together."""
    progress: float = 0.0
    """Share of the run done."""
    num_tenths_past: int = 0
    """Where validation comes at tenths of the run: how many are past."""
    is_validation_due: bool = False
    """The run was ended between the step after which validation comes and the end of that validation."""
    epoch_loss_sum: float = 0.0
    """Of the current epoch: the sum over its supervised tokens of their loss, nats."""
    epoch_num_tokens: int = 0
    batch_parts: int = 1
    """Into how many parts a batch is divided on its way through the model, since memory ran out with fewer."""
    validation_parts: int = 1
    """The same in validation, where that is more."""
    bad_steps_in_a_row: int = 0
    """The last so many steps were passed over, since their loss or gradient was no number."""
    history: History = field(default_factory=_empty_history)
    """`train_losses`: mean over tokens, one an epoch. `val_losses`: one a validation, at the steps `val_steps`.
    `cider_d`, `distinct_captions`: one each time that captions were scored, at the steps `score_steps`."""

    @property
    def mean_epoch_loss(self) -> float | None:
        """Mean loss a token of the current epoch so far; None before its first step."""
        return self.epoch_loss_sum / self.epoch_num_tokens if self.epoch_num_tokens else None

    def begin_epoch(self, epoch: int) -> None:
        """Stand at the start of `epoch` (counted from 0)."""
        self.epoch = epoch
        self.batch_in_epoch = 0
        self.epoch_loss_sum = 0.0
        self.epoch_num_tokens = 0

    def to_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainState":
        """From the checkpoint. What an earlier version did not count yet begins here.

        Raises:
            CheckpointError: fields are unknown: the checkpoint is of a later version; or it has no place in the run.
        """
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        missing = [name for name in ("epoch", "batch_in_epoch", "step") if name not in values]
        if unknown or missing:
            raise CheckpointError(
                f"The training state is not one that this version knows: missing {missing}, unknown {unknown}. Resume "
                "with the version that wrote it, or start a new run with --init-from to keep the weights."
            )
        state = cls(**values)
        state.history = _empty_history() | state.history
        return state
