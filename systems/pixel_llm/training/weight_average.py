"""An exponential moving average of the weights, which often captions better than the weights of any one moment.

Polyak & Juditsky 1992 average over a whole run; the exponential form follows the run with a memory of about
1 / (1 - decay) steps. At the start it forgets faster, by (1 + n) / (10 + n) after n steps, so that the random weights
of the beginning are soon gone (Tan & Le 2019 use it so).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import CheckpointError

__all__ = ["WeightAverage"]


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
    def load(self, tensors: dict[str, Tensor], *, num_updates: int) -> None:
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
