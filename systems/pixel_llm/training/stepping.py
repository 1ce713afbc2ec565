"""From batches of the loader to steps of the optimizer, and to a validation loss, through what goes wrong on the way.

Where memory runs out, a batch goes through the model in twice as many parts; the gradient stays that of the whole, and
the state keeps the number, so that a resumed run does the same. A step whose loss or gradient is no number changes
nothing, is written down, and ends the run where it happens too often in a row.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.data.folder import shown_some
from systems.pixel_llm.errors import ConfigError, TrainingError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.bad_steps import BadStepLog
from systems.pixel_llm.training.micro_batches import MicroBatch, micro_batches
from systems.pixel_llm.training.optimizer_step import OptimizerStep, StepOutcome
from systems.pixel_llm.training.state import TrainState

__all__ = ["Stepping"]

logger = logging.getLogger(__name__)


class Stepping:
    """Takes the steps of one run, and measures its validation loss.

    Args:
        optimizer_step: computes and changes.
        model: whose tokenizer turns captions into ids.
        bad_step_log: where steps that were passed over are written down.
        max_bad_steps: so many in a row end the run.
    """

    def __init__(
        self, optimizer_step: OptimizerStep, model: PixelLLM, *, bad_step_log: BadStepLog, max_bad_steps: int
    ) -> None:
        self._step, self._model = optimizer_step, model
        self._bad_step_log, self._max_bad_steps = bad_step_log, max_bad_steps

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What scales the loss in fp16; its state is part of the run's."""
        return self._step.scaler

    def take(self, batches: Sequence[Any], state: TrainState) -> StepOutcome | None:
        """One step on the batches together; None where they hold no caption. `state` tells and keeps what it came to.

        Raises:
            ConfigError: a batch is not what the loader's collate function should make, or memory ran out on a single
                picture.
            TrainingError: it was one bad step too many.
        """
        parts = micro_batches(batches, self._model.encode_captions, parts=state.batch_parts)
        if not parts:
            return None
        while True:
            try:
                loss = self._step.accumulate(parts, step=state.step)
                break
            except torch.OutOfMemoryError as error:
                self._divide_further(batches, state, error)
                parts = micro_batches(batches, self._model.encode_captions, parts=state.batch_parts)
        outcome = self._step.change(loss, parts)
        if outcome.is_bad:
            self._note_bad_step(batches, outcome, state)
        else:
            state.bad_steps_in_a_row = 0
        return outcome

    @property
    def loss(self) -> Callable[[MicroBatch], Tensor]:
        """The mean loss over the tokens of a micro-batch, with the model as it stands."""
        return self._step.loss

    def mean_loss(
        self,
        batches: Iterable[Any],
        state: TrainState,
        *,
        is_stopped: Callable[[], bool],
        beside: Callable[[MicroBatch, Tensor], None] | None = None,
    ) -> float | None:
        """Mean loss over all tokens of `batches`, without dropout; None where it was stopped, or there is no token.

        `beside` is called with each micro-batch and its loss, without dropout too. A mean that is no number is warned
        of, with the pictures that it comes from.

        Raises:
            ConfigError: as `take`.
        """
        # The loss has a mode too: label smoothing is for training.
        modes = [
            (each, each.training) for each in (self._step.model, self._step.loss_fn) if isinstance(each, nn.Module)
        ]
        for module, _ in modes:
            module.eval()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._step.device)
        num_tokens = 0
        looked_at: list[tuple[Any, Tensor]] = []
        try:
            with torch.no_grad():
                for batch in batches:
                    if is_stopped():
                        return None
                    for part, loss in self._losses(batch, state):
                        loss_sum += loss * part.num_tokens
                        num_tokens += part.num_tokens
                        looked_at.append((batch.get("image_paths", ()), loss))
                        if beside is not None:
                            beside(part, loss)
        finally:
            for module, was_training in modes:
                module.train(was_training)
        if is_stopped() or num_tokens == 0:
            return None
        mean = loss_sum.item() / num_tokens
        if not math.isfinite(mean):
            _warn_of_bad_loss(mean, looked_at)
        return mean

    def _losses(self, batch: Any, state: TrainState) -> list[tuple[MicroBatch, Tensor]]:
        """The micro-batches of a batch to validate on, each with its loss; more of them where memory runs out."""
        while True:
            number = max(state.batch_parts, state.validation_parts)
            try:
                parts = micro_batches([batch], self._model.encode_captions, parts=number)
                return [(part, self._step.loss(part).double()) for part in parts]
            except torch.OutOfMemoryError as error:
                _check_divisible([batch], number, error)
                state.validation_parts = 2 * number
                self._step.release_memory()
                logger.warning(
                    "Memory ran out in the validation at step %d: from here on each batch of it goes through the model "
                    "in %d parts. A validation loader with a smaller batch_size does the same.", state.step, 2 * number,
                )  # fmt: skip

    def _divide_further(self, batches: Sequence[Any], state: TrainState, error: torch.OutOfMemoryError) -> None:
        """Twice as many parts a batch, for good."""
        _check_divisible(batches, state.batch_parts, error)
        state.batch_parts *= 2
        self._step.release_memory()
        logger.warning(
            "Memory ran out at step %d: from here on each batch goes through the model in %d parts. The gradient stays "
            "that of the whole batch; a smaller batch_size with more gradient_accumulation_steps does the same.",
            state.step, state.batch_parts,
        )  # fmt: skip

    def _note_bad_step(self, batches: Sequence[Any], outcome: StepOutcome, state: TrainState) -> None:
        state.bad_steps_in_a_row += 1
        self._bad_step_log.add(batches, outcome, step=state.step, epoch=state.epoch)
        if state.bad_steps_in_a_row >= self._max_bad_steps:
            raise TrainingError(
                f"The loss or its gradient was no number {state.bad_steps_in_a_row} times in a row, the last time at "
                f"step {state.step}: {self._bad_step_log.path} has the batches. Resume from an earlier checkpoint with "
                "a lower learning_rate, a longer warmup_fraction, or precision='fp32'."
            )


def _check_divisible(batches: Sequence[Any], parts: int, error: torch.OutOfMemoryError) -> None:
    """Raises ConfigError where the parts hold a picture each."""
    if parts >= max(len(batch["images"]) for batch in batches):
        # No TrainingError: the weights are good, and are saved before the run ends.
        raise ConfigError(
            "Memory ran out on a single picture. Choose a smaller image_size or model, gradient_checkpointing or "
            f"precision='bf16'. ({str(error).strip().splitlines()[0]})"
        ) from error


def _warn_of_bad_loss(mean: float, looked_at: Sequence[tuple[Any, Tensor]]) -> None:
    bad = [list(map(str, paths)) for paths, loss in looked_at if not bool(loss.isfinite())]
    held = f" The first holds {shown_some(bad[0])}." if bad and bad[0] else ""
    logger.warning(
        "The validation loss is %s: it never counts as the best. It comes from %d of %d batches.%s",
        mean, len(bad), len(looked_at), held,
    )  # fmt: skip
