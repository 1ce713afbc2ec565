"""What a person looks at: captions of the same few pictures at every validation, and the run's pictures at its end."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.data import make_transform, open_image
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.figures import CaptionedPicture, contact_sheet, training_curve
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.evaluation.thumbnails import spaced
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.events import Event, RunStartEvent, ValidationEvent
from systems.pixel_llm.training.metrics_log import MetricsLog, read_metrics

__all__ = ["SamplePanel", "write_pictures"]

logger = logging.getLogger(__name__)

PANEL_SIZE = 8
# So many of them are shown in the log.
NUM_LOGGED = 3
SHEET_SIZE = 16
# A caption of a model that has learned little may never end; nobody reads beyond this in a log line.
PANEL_MAX_LENGTH = 40


class SamplePanel:
    """A callback of the Trainer: at each validation it notes what the model says of the same few pictures.

    All of them go into a file, a line a validation; a few are shown in the log. Like `metrics.jsonl` the file is only
    appended to, with a line where a run begins or resumes, so that `read_metrics` leaves out what was superseded.
    """

    def __init__(self, model: PixelLLM, samples: Sequence[Sample], path: Path) -> None:
        self._model = model
        self._candidates = spaced(samples, PANEL_SIZE)
        self._log = MetricsLog(path)
        self._samples: list[Sample] = []
        self._images: torch.Tensor | None = None

    def __call__(self, event: Event) -> None:
        """Caption the panel where `event` is a validation."""
        place = {"step": event.step, "epoch": event.epoch, "elapsed_seconds": round(event.elapsed_seconds, 3)}
        if isinstance(event, RunStartEvent) and self._candidates:
            self._log.append("start", place)
        if not isinstance(event, ValidationEvent):
            return
        if self._images is None:
            # Not before the first validation: the Trainer has given the model its preprocessing by then.
            image_size = self._model.preprocessing.image_size
            missing_from = "the pictures captioned at each validation"
            opened = list(_opened(self._candidates, image_size, missing_from=missing_from))
            transform = make_transform(self._model.preprocessing)
            self._samples = [sample for sample, _ in opened]
            self._images = torch.stack([transform(image) for _, image in opened]) if opened else torch.empty(0)
        if not self._samples:
            return
        captions = self._model.generate(self._images, max_length=min(PANEL_MAX_LENGTH, self._model.config.max_seq_len))
        said = list(zip(self._samples, captions, strict=True))
        for sample, caption in spaced(said, NUM_LOGGED):
            logger.info("    %s: %s", escaped(sample.image_path.name), one_line(caption) or "(nothing)")
        entries = [
            {
                "image": os.path.abspath(sample.image_path),  # noqa: PTH100  a packed picture is no Path
                "caption": caption,
                "references": list(sample.captions),
            }
            for sample, caption in said
        ]
        self._log.append("panel", place | {"captions": entries})


def write_pictures(folder: RunFolder, samples: Sequence[Sample], *, title: str, device: torch.device) -> None:
    """Write the run's contact sheet, captioned by its best checkpoint, and its curve."""
    captioner = Captioner.from_checkpoint(folder.path, device=device)
    image_size = captioner.model.preprocessing.image_size
    opened = list(_opened(spaced(samples, SHEET_SIZE), image_size, missing_from="the contact sheet"))
    captions = captioner.caption([image for _, image in opened])
    pictures = [
        CaptionedPicture(image=image, caption=caption, references=sample.captions)
        for (sample, image), caption in zip(opened, captions, strict=True)
    ]
    if pictures:
        contact_sheet(pictures, folder.samples, title=title)
    training_curve(read_metrics(folder.metrics), folder.curve, title=folder.path.name)


def _opened(
    samples: Sequence[Sample], image_size: tuple[int, int], *, missing_from: str
) -> Iterator[tuple[Sample, Image.Image]]:
    """Each sample with its picture, decoded as in training. One that cannot be read is left out with a warning: no run
    is lost to a look.
    """
    for sample in samples:
        try:
            yield sample, open_image(sample.image_path, at_least=image_size)
        except DatasetError as error:
            logger.warning("Left out of %s: %s", missing_from, error)
