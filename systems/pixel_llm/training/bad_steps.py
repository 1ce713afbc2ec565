"""`bad_steps.jsonl`: the batches whose loss or gradient was no number, so that the picture or caption can be found."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from systems.pixel_llm.training.batch_content import captions_of_batch
from systems.pixel_llm.training.json_lines import JsonLines
from systems.pixel_llm.training.optimizer_step import StepOutcome

__all__ = ["BAD_STEPS_FILE", "BadStepLog"]

BAD_STEPS_FILE = "bad_steps.jsonl"

logger = logging.getLogger(__name__)


class BadStepLog:
    """Appends to one file; it is there only if there was such a step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path)

    def add(self, batches: Sequence[Any], outcome: StepOutcome, *, step: int, epoch: int) -> None:
        """Write a line for the step, and warn of it."""
        loss, gradient_norm = outcome.loss.item(), outcome.gradient_norm.item()
        self._lines.append(
            {
                "step": step,
                "epoch": epoch,
                # As text: JSON has no NaN and no infinity.
                "loss": str(loss),
                "gradient_norm": str(gradient_norm),
                "image_paths": [str(path) for batch in batches for path in batch.get("image_paths", ())],
                "captions": [caption for batch in batches for caption in captions_of_batch(batch)],
            }
        )
        logger.warning(
            "Step %d was passed over: its loss is %s, the norm of its gradient %s. %s has its pictures and captions.",
            step, loss, gradient_norm, self.path,
        )  # fmt: skip
