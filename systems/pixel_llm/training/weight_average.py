"""An exponential moving average of the weights, which often captions better than the weights of any one moment.

Polyak & Juditsky 1992 average over a whole run; the exponential form follows the run with a memory of about
1 / (1 - decay) steps. At the start it forgets faster, by (1 + n) / (10 + n) after n steps, so that the random weights
of the beginning are soon gone (Tan & Le 2019 use it so).
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import CheckpointError

__all__ = ["Averaging", "WeightAverage"]

logger = logging.getLogger(__name__)


class WeightAverage:
    """Averages of the floating-point parameters of one model, in fp32, on its device.

    Made when the parameters have their final shapes: after the tokenizer is fitted.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        """Steps averaged over; part of what a resume needs."""
        self._parameters = dict(model.named_parameters())
        self._averages = {name: parameter.detach().float().clone() for name, parameter in self._parameters.items()}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> average, to be saved."""
        return self._averages

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages = list(self._averages.values())
        weights = [self._parameters[name].detach() for name in self._averages]
        if all(weight.dtype == torch.float32 for weight in weights):
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight.float(), 1 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model with the averages as its weights, for as long as the context lasts."""
        own = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._averages[name].to(parameter.dtype)
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = own[name]

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], *, num_updates: int) -> None:
        """Go on from what was saved.

        Raises:
            CheckpointError: the names or shapes are not those of the model; nothing is changed.
        """
        for name, average in self._averages.items():
            if name not in tensors or tensors[name].shape != average.shape:
                found = "is missing" if name not in tensors else f"has shape {list(tensors[name].shape)}"
                raise CheckpointError(
                    f"The saved average of {name} {found}, expected {list(average.shape)}. Resume with the model's own "
                    "settings, or without ema_decay."
                )
        for name, average in self._averages.items():
            average.copy_(tensors[name])
        self.num_updates = num_updates


class Averaging:
    """The average of one run: none where `decay` is None, and none before `begin`.

    Args:
        model: whose weights.
        decay: of the average, between 0 and 1.
    """

    def __init__(self, model: nn.Module, *, decay: float | None) -> None:
        self._model, self._decay = model, decay
        self.average: WeightAverage | None = None

    def begin(self) -> None:
        """Start from the weights as they are, unless an average is kept already."""
        if self._decay is not None and self.average is None:
            self.average = WeightAverage(self._model, decay=self._decay)

    def update(self) -> None:
        """Take in the weights as they are after a step."""
        if self.average is not None:
            self.average.update()

    def in_use(self) -> AbstractContextManager[None]:
        """The model with the averaged weights, where they are kept."""
        return nullcontext() if self.average is None else self.average.in_use()

    def resume(self, saved: Mapping[str, Tensor] | None, *, num_updates: int) -> None:
        """Go on from a checkpoint's average, or from the model's weights where it has none.

        Raises:
            CheckpointError: it does not fit the model.
        """
        if self._decay is None:
            if saved is not None:
                logger.warning(
                    "The checkpoint holds averaged weights, and this run keeps none: give ema_decay to go on with them."
                )
            return
        self.average = WeightAverage(self._model, decay=self._decay)
        if saved is not None:
            self.average.load(saved, num_updates=num_updates)
