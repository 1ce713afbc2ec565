"""One optimizer step: micro-batches in, one change of the weights out, or none where the numbers are no numbers.

The loss of each micro-batch is a mean over its tokens; weighted by its share of the step's tokens, the gradients add up
to that of the mean over all tokens of the step. Dropout draws from the global generator, seeded by the step: a resumed
run drops what the unbroken one would have. In fp16 the loss is scaled up before the backward pass, so that small
gradients are not rounded to zero (Micikevicius et al. 2018, section 3.2), by a factor that `GradScaler` adapts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.models.precision import PrecisionName
from systems.pixel_llm.seeding import derive_seed
from systems.pixel_llm.training.loss import in_full_precision, share_of_step
from systems.pixel_llm.training.micro_batches import MicroBatch
from systems.pixel_llm.training.precision import autocast_context

__all__ = ["OptimizerStep", "StepOutcome"]


@dataclass(frozen=True)
class StepOutcome:
    """What came of one step."""

    loss: Tensor
    """Mean over the step's tokens before the change, nats; a detached scalar on the device."""
    gradient_norm: Tensor
    """Euclidean norm over all parameters, before it is clipped; a scalar on the device."""
    is_bad: bool
    """Whether the loss or the gradient is no number. Then nothing was changed."""
    num_tokens: int
    """With a target."""
    num_images: int
    num_captions: int


class OptimizerStep:
    """Computes losses and takes steps, for one model and optimizer.

    Args:
        model: called with pictures, ids, positions and, where pictures have several captions, `image_index`.
        optimizer: over its parameters.
        loss_fn: `loss_fn(predictions [N, V], targets [N])`, a mean over N.
        device: where all of it is.
        precision: of the matrix products.
        max_grad_norm: longer gradients are scaled down to it; None leaves them.
        seed: of the run.
        pad: brings micro-batches to few shapes before the model learns from them; None leaves them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Any,
        *,
        device: torch.device,
        precision: PrecisionName,
        max_grad_norm: float | None,
        seed: int,
        pad: Callable[[MicroBatch], MicroBatch] | None = None,
    ) -> None:
        self.precision = precision
        self.scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        self.model, self.device = model, device
        self.loss_fn, self._optimizer, self._seed = loss_fn, optimizer, seed
        self._max_grad_norm, self._pad = max_grad_norm, pad

    def loss(self, micro_batch: MicroBatch) -> Tensor:
        """The mean loss over the tokens of a micro-batch; logits are computed only where there is a target."""
        part = micro_batch.to(self.device)
        which = {} if part.image_index is None else {"image_index": part.image_index}
        with autocast_context(self.precision, self.device):
            predictions = self.model(part.images, part.tokens.input_ids, positions=part.tokens.supervised, **which)
        targets = part.tokens.targets.flatten()[part.tokens.supervised]
        loss: Tensor = self.loss_fn(in_full_precision(predictions), targets)
        return loss

    def accumulate(self, parts: Sequence[MicroBatch], *, step: int) -> Tensor:
        """Put the gradient of step number `step` into the parameters; give the mean loss over its tokens.

        May be called again for the same step, after memory ran out.
        """
        num_tokens = sum(part.num_tokens for part in parts)
        self._optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive_seed("step", self._seed, step))
            for part in parts:
                loss = self.loss(part if self._pad is None else self._pad(part))
                if len(parts) > 1:
                    loss = share_of_step(loss, num_tokens=part.num_tokens, num_tokens_of_step=num_tokens)
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                loss_sum += loss.detach().double()
        return loss_sum

    def change(self, loss: Tensor, parts: Sequence[MicroBatch]) -> StepOutcome:
        """Change the weights by the gradients of `parts`, whose mean loss is `loss`; not where one is no number."""
        if self.scaler is not None:
            self.scaler.unscale_(self._optimizer)
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        if self._max_grad_norm is None:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            gradient_norm = nn.utils.get_total_norm(gradients)
        else:
            gradient_norm = nn.utils.clip_grad_norm_(parameters, self._max_grad_norm)
        if self.scaler is None:
            is_bad = not bool(loss.isfinite() & gradient_norm.isfinite())
        else:
            # A gradient that overflows is how the scale finds its size: bad only where scaling down does not help.
            is_bad = not bool(loss.isfinite()) or (not bool(gradient_norm.isfinite()) and self.scaler.get_scale() < 1)
        if is_bad:
            self._optimizer.zero_grad(set_to_none=True)
        if self.scaler is not None:
            if not is_bad:
                self.scaler.step(self._optimizer)
            self.scaler.update()
        elif not is_bad:
            self._optimizer.step()
        return StepOutcome(
            loss,
            gradient_norm,
            is_bad,
            num_tokens=sum(part.num_tokens for part in parts),
            num_images=sum(len(part.images) for part in parts),
            num_captions=sum(part.num_captions for part in parts),
        )

    def release_memory(self) -> None:
        """Give back what a step that could not be computed still holds."""
        self._optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
