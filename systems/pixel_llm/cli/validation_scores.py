"""The scores with which a run ends: its best checkpoint on some of its validation pictures, in `RUN/evaluation/`.

They are those of `pixel-llm evaluate RUN`, on a part of the pictures where there are many, so that no run waits long
for its end. Ctrl-C leaves them out and nothing else.
"""

import logging
from dataclasses import replace
from pathlib import Path
from shlex import quote

import torch

from systems.pixel_llm.cli.reading import Sides
from systems.pixel_llm.cli.scan_progress import pictures_shown
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.evaluate import evaluate
from systems.pixel_llm.evaluation.evaluation_files import write_evaluation
from systems.pixel_llm.evaluation.result import EvaluationResult
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.inference import Captioner, find_checkpoint

__all__ = ["MAX_PICTURES", "score_validation"]

logger = logging.getLogger(__name__)

MAX_PICTURES = 250
"""Of more validation pictures, so many are scored, evenly spaced."""
MAX_TRAIN_PICTURES = 500
"""As many are looked at for the nearest neighbour."""


def score_validation(
    folder: RunFolder, sides: Sides, *, data: tuple[Path, ...], device: torch.device, num_workers: int | None = None
) -> EvaluationResult | None:
    """Score the run's best checkpoint and write `RUN/evaluation/`; None where nothing is scored, or Ctrl-C came.

    Raises:
        PixelLLMError: the folder cannot be written to.
    """
    again = f"pixel-llm evaluate {quote(str(folder.path))}"
    if not sides.validation:
        logger.info("There are no pictures to validate on, so there are no scores.")
        return None
    checkpoint = find_checkpoint(folder.path)
    samples = sides.validation.evenly_spaced(MAX_PICTURES)
    try:
        with pictures_shown() as on_progress:
            result = evaluate(
                Captioner.from_checkpoint(checkpoint, device=device), samples,
                run=str(folder.path), checkpoint=str(checkpoint.resolve()), split="val",
                data=[str(each.resolve()) for each in data],
                train=sides.train, max_train_pictures=MAX_TRAIN_PICTURES, num_workers=num_workers,
                on_progress=on_progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        logger.warning("Scoring was stopped; the run is whole. To score it: %s", again)
        return None
    except DatasetError as error:  # no validation picture can be read: no run is lost to its scores
        logger.warning("There are no scores: %s", error)
        return None
    if len(samples) < len(sides.validation):
        part = (
            f"Scored on {len(samples):,} of the {len(sides.validation):,} validation pictures, evenly spaced; "
            f"all of them: {again}"
        )
        result = replace(result, caveats=(*result.caveats, part))
    write_evaluation(result, folder.evaluation)
    for caveat in result.caveats:
        logger.info("note: %s", caveat)
    return result
