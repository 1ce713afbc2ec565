"""Looking at validation data: the loss on them, what the pictures are worth to it, what captions score, and captions of
the same few pictures for people to read.

With `ema_decay` it is all measured with the averaged weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.batches import EpochBatches
from systems.pixel_llm.training.fetching import Fetching
from systems.pixel_llm.training.judging import Judging
from systems.pixel_llm.training.panel import Panel, PanelCaption
from systems.pixel_llm.training.picture_use import PictureUse
from systems.pixel_llm.training.state import TrainState
from systems.pixel_llm.training.stepping import Stepping
from systems.pixel_llm.training.weight_average import Averaging

__all__ = ["Validated", "Validation"]


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What one validation found."""

    loss: float
    """Mean over all tokens, nats."""
    shuffled_loss_gap: float | None
    """By how much the loss a token rises when captions are shown other pictures, nats; None with a single picture."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of captions, where they were due."""
    captions: Sequence[PanelCaption] = ()
    """Of the panel."""


class Validation:
    """Measures one model on one loader, again and again.

    Args:
        loader: the validation data, or None.
        model: what captions.
        stepping: computes losses.
        fetching: takes batches from the loader.
        averaging: whose weights are in use meanwhile.
        judging: when captions are scored.
        is_stopped: whether the run was asked to stop; asked between batches.
        seed: of the run.
        beside: the loader of the training data.
        panel: captions the same few pictures each time.
    """

    def __init__(
        self,
        loader: Any,
        model: PixelLLM,
        *,
        stepping: Stepping,
        fetching: Fetching,
        averaging: Averaging,
        judging: Judging,
        is_stopped: Callable[[], bool],
        seed: int,
        beside: Any,
        panel: Panel | None,
    ) -> None:
        self._batches = None if loader is None else EpochBatches(loader, seed=seed, beside=beside)
        self._model, self._stepping, self._fetching = model, stepping, fetching
        self._averaging, self._judging, self._is_stopped = averaging, judging, is_stopped
        self._panel = panel

    @property
    def has_data(self) -> bool:
        """Whether there is anything to validate on."""
        return self._batches is not None

    def loss(self, state: TrainState, *, picture_use: PictureUse | None = None) -> float | None:
        """Mean loss over all tokens, nats; None without data, after a stop, or where no picture could be read."""
        if self._batches is None:
            return None
        with self._averaging.in_use():
            return self._stepping.mean_loss(
                self._fetching.all(self._batches.epoch(0)), state, is_stopped=self._is_stopped, beside=picture_use
            )

    def measure(self, state: TrainState, *, is_last: bool) -> Validated | None:
        """The loss and what goes with it, and captions' scores where they are due; None where there is no loss, or a
        stop was requested before all was done. `is_last` tells that the run ends here.
        """
        picture_use = PictureUse(self._stepping.loss)
        loss = self.loss(state, picture_use=picture_use)
        if loss is None:
            return None
        scorer, number = self._judging.scorer, len(state.history["val_losses"]) + 1
        scores: Mapping[str, float] | None = {}
        if scorer is not None and self._judging.is_due(number, is_last=is_last):
            with self._averaging.in_use():
                scores = scorer(self._model, self._is_stopped)
        if scores is None:
            return None
        captions: Sequence[PanelCaption] = ()
        if self._panel is not None:
            with self._averaging.in_use():
                captions = self._panel(self._model)
        return Validated(loss=loss, shuffled_loss_gap=picture_use.gap, scores=scores, captions=captions)
