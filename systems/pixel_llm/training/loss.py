"""The objective: how surprised the model is by each next token of the true captions, the mean over all their tokens.

One rule holds for a step, an epoch and a validation: the sum over tokens divided by the number of tokens. It is never a
mean of means, so neither the batch size, nor the padding, nor the division into micro-batches moves it. Label smoothing
(Szegedy et al. 2016, section 7) keeps the rule and changes what a token costs, in training only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.tokenizer import IGNORE_INDEX

__all__ = ["CaptionLoss", "in_full_precision", "loss_of_training", "share_of_step"]


class CaptionLoss(nn.Module):
    """Mean cross-entropy, in nats a token, over the positions that have a target (`targets != -100`).

    Takes flat predictions `[N, V]` with targets `[N]`, or a padded batch `[B, T, V]` with `[B, T]`: the same tokens
    give the same loss, however they are padded. The softmax is computed in fp32, or in fp64 where the predictions are.

    Args:
        label_smoothing: e of Szegedy et al. 2016, section 7: the target distribution is 1 - e on the next token and e
            spread evenly over `target_ids`, the next token among them. In eval mode there is no smoothing.
        target_ids: what smoothing spreads over, such as `tokenizer.target_ids`, or a function that gives it, where the
            tokenizer may be fitted later. No caption holds `<pad>`, `<bos>` or a spare row of the embedding table:
            asking for probability there would be asking for mistakes. Left out: all V.

    Raises:
        ConfigError: `label_smoothing` is out of range.
    """

    def __init__(self, label_smoothing: float = 0.0, *, target_ids: range | Callable[[], range] | None = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be a number at least 0 and below 1, not {label_smoothing!r}.")
        self.label_smoothing = label_smoothing
        self._target_ids = target_ids

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The mean over supervised tokens, a scalar fp32 (or fp64) tensor; 0 where no position has a target.

        Raises:
            ConfigError: the shapes do not match, or the predictions have fewer columns than `target_ids` needs.
        """
        if predictions.dim() not in (2, 3) or predictions.shape[:-1] != targets.shape:
            raise ConfigError(
                "CaptionLoss expects predictions [N, V] with targets [N], or [B, T, V] with [B, T]; found predictions "
                f"{list(predictions.shape)} with targets {list(targets.shape)}."
            )
        flat, flat_targets = in_full_precision(predictions.flatten(0, -2)), targets.flatten()
        if self.training and self.label_smoothing > 0:
            loss = self._smoothed_sum(flat, flat_targets)
        else:
            loss = F.cross_entropy(flat, flat_targets, ignore_index=IGNORE_INDEX, reduction="sum")
        # As a tensor, so that a GPU is not made to wait; an empty batch gives 0, not 0/0.
        num_targets = (targets != IGNORE_INDEX).sum().clamp(min=1)
        return loss / num_targets.to(loss.dtype)

    def _smoothed_sum(self, predictions: Tensor, targets: Tensor) -> Tensor:
        ids = self._target_ids() if callable(self._target_ids) else self._target_ids
        ids = range(predictions.shape[-1]) if ids is None else ids
        if ids.stop > predictions.shape[-1]:
            raise ConfigError(
                f"Label smoothing spreads over the ids {ids.start} to {ids.stop - 1}, but the predictions have "
                f"{predictions.shape[-1]} columns. Give CaptionLoss the target_ids of the model's own tokenizer."
            )
        log_probabilities = F.log_softmax(predictions, dim=-1)
        of_target = F.nll_loss(log_probabilities, targets, ignore_index=IGNORE_INDEX, reduction="sum")
        of_all = -log_probabilities[:, ids.start : ids.stop].mean(dim=-1)
        of_all = of_all.masked_fill(targets == IGNORE_INDEX, 0.0).sum()
        return (1 - self.label_smoothing) * of_target + self.label_smoothing * of_all


def in_full_precision(predictions: Tensor) -> Tensor:
    """`predictions` in fp32, where softmax and sums lose nothing that matters; fp64 stays fp64."""
    return predictions if predictions.dtype == torch.float64 else predictions.float()


def share_of_step(loss: Tensor, *, num_tokens: int, num_tokens_of_step: int) -> Tensor:
    """What a micro-batch adds to the loss of its step: `loss`, its mean over `num_tokens`, by its share of all tokens.

    Summed over the micro-batches of a step this is the mean over all its tokens, and so are the gradients, however
    unequal the captions; averaging the means instead would let the tokens of a short micro-batch count for more.
    """
    return loss * (num_tokens / num_tokens_of_step)


def loss_of_training(own: Any, *, label_smoothing: float, target_ids: Callable[[], range]) -> Any:
    """The loss that a Trainer minimises: the user's `own`, or, if that is None, `CaptionLoss`.

    Raises:
        ConfigError: `own` comes together with `label_smoothing`, or says that it is no mean.
    """
    if own is None:
        return CaptionLoss(label_smoothing, target_ids=target_ids)
    if label_smoothing > 0:
        raise ConfigError(
            f"label_smoothing={label_smoothing} is a setting of the loss that the Trainer makes itself; a loss_fn of "
            "your own only gets predictions and targets, and cannot be smoothed from outside. Leave out one of the "
            "two, or smooth inside: CaptionLoss(label_smoothing=..., target_ids=...) or "
            "torch.nn.CrossEntropyLoss(label_smoothing=...)."
        )
    if (reduction := getattr(own, "reduction", "mean")) != "mean":
        raise ConfigError(
            f"loss_fn must give the mean over the targets it gets, but it has reduction={reduction!r}: the Trainer "
            "weighs each batch by its tokens itself. Use reduction='mean'."
        )
    return own
