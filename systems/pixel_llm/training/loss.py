"""The objective: how surprised the model is by each next token of the true caption."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.tokenizer import IGNORE_INDEX

__all__ = ["CaptionLoss"]


class CaptionLoss(nn.Module):
    """Mean cross-entropy, in nats a token, over the positions that have a target (`targets != -100`).

    Takes flat predictions `[N, V]` with targets `[N]`, or a padded batch `[B, T, V]` with `[B, T]`: the same tokens
    give the same loss, however they are padded. The softmax is computed in fp32, whatever the predictions' dtype.
    """

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The mean over supervised tokens, a scalar fp32 tensor.

        Raises:
            ConfigError: the shapes do not match, or no position has a target.
        """
        if predictions.dim() not in (2, 3) or predictions.shape[:-1] != targets.shape:
            raise ConfigError(
                "CaptionLoss expects predictions [N, V] with targets [N], or [B, T, V] with [B, T]; found predictions "
                f"{list(predictions.shape)} with targets {list(targets.shape)}."
            )
        flat = predictions.reshape(-1, predictions.shape[-1]).float()
        loss = F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORE_INDEX, reduction="sum")
        # As a tensor, so that a GPU is not made to wait; an empty batch gives 0, not 0/0.
        num_targets = (targets != IGNORE_INDEX).sum().clamp(min=1)
        return loss / num_targets.to(torch.float32)
