"""The pictures that a demo keeps: drawn once, captioned at each validation, scored at the end, shown by its report.

What the demo trains on is drawn afresh every epoch and never on disk, and so are the many pictures of its three
results. A page needs files that stay, so some of each kind that training never shows are written into the run.
"""

import torch

from systems.pixel_llm.data import read_samples
from systems.pixel_llm.data.samples import SampleTable
from systems.pixel_llm.data.shapes import write_folder
from systems.pixel_llm.evaluation.evaluate import evaluate
from systems.pixel_llm.evaluation.evaluation_files import write_evaluation
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.inference import Captioner, find_checkpoint

__all__ = ["draw_kept_pictures", "score_kept_pictures"]

NUM_KEPT = {"combinations": 48, "two": 36, "pairs": 36}
"""Of each split."""


def draw_kept_pictures(folder: RunFolder, *, seed: int) -> SampleTable:
    """Draw them into the run folder."""
    for split, count in NUM_KEPT.items():
        write_folder(folder.pictures / split, count, split=split, seed=seed)
    return kept_pictures(folder)


def kept_pictures(folder: RunFolder) -> SampleTable:
    """Those that are there."""
    return SampleTable.joined([read_samples(folder.pictures / split, "json") for split in NUM_KEPT])


def score_kept_pictures(folder: RunFolder, device: torch.device) -> None:
    """Caption and score them with the best checkpoint, into `RUN/evaluation/`."""
    checkpoint = find_checkpoint(folder.path)
    result = evaluate(
        Captioner.from_checkpoint(checkpoint, device=device),
        kept_pictures(folder),
        run=str(folder.path),
        checkpoint=str(checkpoint.resolve()),
        data="drawn shapes",
        split="test",
        train=None,
        without_train="training pictures are drawn afresh each time and kept nowhere",
    )
    write_evaluation(result, folder.evaluation)
