"""Whether a model looks at its pictures: how much worse it predicts a caption that is shown another picture.

A captioner can bring its loss down a long way by learning the language of the captions alone; it then says the same of
every picture. The loss on validation data does not tell this from a model that sees. The rise of the loss when pictures
are shuffled against captions does: it is about 0 for a model that ignores them.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from systems.pixel_llm.training.micro_batches import MicroBatch

__all__ = ["NUM_PICTURES", "SMALL_GAP", "PictureUse", "picture_alarm"]

NUM_PICTURES = 256
"""Looked at, from the first on: it costs a second forward pass of these."""
SMALL_GAP = 0.02
"""Nats a token: less is no sign of looking. (A small model of 2,000 photographs has 0.1 after 10 minutes.)"""
FEW_CAPTIONS = 0.05
"""Of captions of different pictures, so few that differ are a sign of one caption for all."""
ALARM_PROGRESS = 0.5
ALARM_STEP = 100
"""Every model learns language first and to look afterwards: before this share of a run, and this step, all is well."""


class PictureUse:
    """Callable, given validation micro-batches with their losses, that compares these with those of wrong pictures.

    Each caption is shown the picture half a batch further on, since neighbours may be pictures of one thing, or one
    picture with several captions; a batch of one picture is shown that of the batch before. So the gap depends a little
    on the batch size, and is the same at every validation of a run in that.

    Args:
        loss_of: micro-batch -> its mean loss over tokens, nats.
    """

    def __init__(self, loss_of: Callable[[MicroBatch], Tensor]) -> None:
        self._loss_of = loss_of
        self._rise = 0.0
        self._num_tokens = self._num_pictures = 0
        self._last_picture: Tensor | None = None

    def __call__(self, part: MicroBatch, loss: Tensor) -> None:
        """Compare with wrong pictures the micro-batch `part`, whose mean loss is `loss`."""
        if self._num_pictures >= NUM_PICTURES:
            return
        count = len(part.images)
        others = self._last_picture if count == 1 else torch.roll(part.images, count // 2, dims=0)
        self._last_picture = part.images[-1:]
        if others is None:
            return
        wrong = self._loss_of(replace(part, images=others))
        self._rise += (wrong - loss).item() * part.num_tokens
        self._num_tokens += part.num_tokens
        self._num_pictures += count

    @property
    def gap(self) -> float | None:
        """The rise of the mean loss a token, nats; None where there was nothing to compare."""
        return self._rise / self._num_tokens if self._num_tokens else None


def picture_alarm(
    *, shuffled_loss_gap: float | None, distinct_captions: float | None, progress: float, step: int
) -> str | None:
    """What to tell a person whose model says the same of every picture, and what to do; None where all is well.

    Args:
        shuffled_loss_gap: nats a token, where it was measured.
        distinct_captions: 0..1, the share of different captions among those of different pictures, where made.
        progress: 0..1, the share of the run that is done.
        step: optimizer steps that are done.
    """
    signs = []
    if shuffled_loss_gap is not None and shuffled_loss_gap < SMALL_GAP:
        signs.append(f"shown wrong pictures, its loss rises by no more than {shuffled_loss_gap:.3f} nats a token")
    if distinct_captions is not None and distinct_captions < FEW_CAPTIONS:
        signs.append(f"of its captions, {distinct_captions:.1%} are different".replace("%", " %"))
    if not signs or progress < ALARM_PROGRESS or step < ALARM_STEP:
        return None
    return (
        f"The model hardly looks at its pictures: {' and '.join(signs)}. Check that captions belong to their pictures "
        "and tell them apart; then train longer, with a lower learning_rate, or freeze less of the encoder."
    )
