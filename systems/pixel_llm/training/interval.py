"""A log interval: what is summed up over its steps, and the figures that it comes to at its end.

Losses and gradient norms stay on the device, in one small vector, and are read once an interval, since reading makes a
GPU wait.
"""

from collections.abc import Callable

import torch

from systems.pixel_llm.training.events import IntervalFigures
from systems.pixel_llm.training.memory import memory_figures
from systems.pixel_llm.training.optimizer_step import StepOutcome
from systems.pixel_llm.training.utilisation import Utilisation

__all__ = ["Interval"]


class Interval:
    """Sums over the steps since the last figures.

    Args:
        device: where losses and norms are.
        clock: gives seconds from any beginning.
        max_grad_norm: longer gradients are clipped; None where none is.
        utilisation: what a step takes, and the device's peak; None where there is no MFU.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        clock: Callable[[], float],
        max_grad_norm: float | None = None,
        utilisation: Utilisation | None = None,
    ) -> None:
        self._device, self._clock, self._max_grad_norm = device, clock, max_grad_norm
        self._utilisation = utilisation
        # Of the loss, of finite gradient norms, the number of these, and of those that were clipped.
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.restart()

    def restart(self) -> None:
        """Begin anew from here."""
        self._sums.zero_()
        self._tokens = self._images = self._captions = 0
        self._flops = self._waited = 0.0
        self._started = self._clock()

    @property
    def is_empty(self) -> bool:
        """Whether there was no token yet to have a loss: batches were empty or bad."""
        return self._tokens == 0

    def add(self, outcome: StepOutcome) -> None:
        """Count a step. A bad one has taken its time, and has no loss."""
        self._images += outcome.num_images
        self._captions += outcome.num_captions
        if self._utilisation is not None:
            self._flops += self._utilisation.flops_of_step(outcome)
        if outcome.is_bad:
            return
        self._tokens += outcome.num_tokens
        norm = outcome.gradient_norm.double()
        # In fp16 a gradient may overflow and the step not be bad: the loss was scaled too far up.
        is_finite = norm.isfinite()
        bound = float("inf") if self._max_grad_norm is None else self._max_grad_norm
        self._sums += torch.stack(
            (
                outcome.loss.double() * outcome.num_tokens,
                torch.where(is_finite, norm, 0.0),
                is_finite.double(),
                (is_finite & (norm > bound)).double(),
            )
        )

    def add_wait(self, seconds: float) -> None:
        """The loop stood still so long for its next batch."""
        self._waited += seconds

    def leave_out(self, seconds: float) -> None:
        """So much of the time is no part of the speed."""
        self._started += seconds

    def figures(self) -> IntervalFigures:
        """What it came to; a new interval begins."""
        loss_sum, norm_sum, num_norms, num_clipped = self._sums.tolist()
        seconds = max(self._clock() - self._started, 1e-9)
        figures = IntervalFigures(
            loss=loss_sum / max(self._tokens, 1),
            gradient_norm=norm_sum / num_norms if num_norms else None,
            clipped_share=round(num_clipped / num_norms, 4) if num_norms and self._max_grad_norm is not None else None,
            tokens_per_second=self._tokens / seconds,
            images_per_second=self._images / seconds,
            captions_per_second=self._captions / seconds,
            data_wait_share=round(min(1.0, self._waited / seconds), 4),
            mfu=None if self._utilisation is None else round(self._flops / seconds / self._utilisation.peak, 4),
            **memory_figures(self._device),
        )
        self.restart()
        return figures
