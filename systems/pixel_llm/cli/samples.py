"""What a person looks at: captions of the same few pictures at every validation, and the run's pictures at its end."""

import logging
from collections.abc import Sequence

import torch

from systems.pixel_llm.cli.run_folder import RunFolder
from systems.pixel_llm.data import make_transform, open_image
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.figures import CaptionedPicture, contact_sheet, training_curve
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.events import Event, ValidationEvent
from systems.pixel_llm.training.metrics_log import read_metrics

__all__ = ["SamplePanel", "evenly_spaced", "write_pictures"]

logger = logging.getLogger(__name__)

PANEL_SIZE = 3
SHEET_SIZE = 16
# A caption of a model that has learned little may never end; nobody reads beyond this in a log line.
PANEL_MAX_LENGTH = 40


class SamplePanel:
    """A callback of the Trainer: at each validation it logs what the model says of the same few pictures."""

    def __init__(self, model: PixelLLM, samples: Sequence[Sample]) -> None:
        self._model = model
        self._samples = evenly_spaced(samples, PANEL_SIZE)
        self._images: torch.Tensor | None = None

    def __call__(self, event: Event) -> None:
        """Caption the panel where `event` is a validation."""
        if not isinstance(event, ValidationEvent) or not self._samples:
            return
        if self._images is None:
            transform = make_transform(self._model.preprocessing)
            self._images = torch.stack([transform(open_image(sample.image_path)) for sample in self._samples])
        captions = self._model.generate(self._images, max_length=min(PANEL_MAX_LENGTH, self._model.config.max_seq_len))
        for sample, caption in zip(self._samples, captions, strict=True):
            logger.info("    %s: %s", sample.image_path.name, " ".join(caption.split()) or "(nothing)")


def write_pictures(folder: RunFolder, samples: Sequence[Sample], *, title: str) -> None:
    """Write the run's contact sheet, captioned by its best checkpoint, and its curve."""
    captioner = Captioner.from_checkpoint(folder.path)
    shown = []
    for sample in evenly_spaced(samples, SHEET_SIZE):
        try:
            image = open_image(sample.image_path)
        except DatasetError as error:
            logger.warning("Not on the contact sheet: %s", error)
            continue
        shown.append(CaptionedPicture(image=image, caption=captioner.caption(image), references=sample.captions))
    if shown:
        contact_sheet(shown, folder.samples, title=title)
    training_curve(read_metrics(folder.metrics), folder.curve, title=folder.path.name)


def evenly_spaced(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` of `samples`, spread over their order, the same ones each time."""
    if len(samples) <= count:
        return list(samples)
    return [samples[place * len(samples) // count] for place in range(count)]
