"""What a person looks at: captions of the same few pictures at every validation, and the run's pictures at its end."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.data import open_image
from systems.pixel_llm.data.images import open_pixels
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.transforms import scaled
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.figures import CaptionedPicture, contact_sheet, training_curve
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.evaluation.thumbnails import spaced
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.events import Event, PanelEvent, RunStartEvent
from systems.pixel_llm.training.metrics_log import MetricsLog, read_metrics
from systems.pixel_llm.training.panel import PanelCaption

__all__ = ["PanelFile", "SamplePanel", "write_pictures"]

logger = logging.getLogger(__name__)

PANEL_SIZE = 8
# So many of them are shown in the log.
NUM_LOGGED = 3
SHEET_SIZE = 16
# A caption of a model that has learned little may never end; nobody reads beyond this in a log line.
PANEL_MAX_LENGTH = 40


class SamplePanel:
    """The panel of a run: what the model says of the same few pictures, evenly spaced among `samples`.

    One that cannot be read is left out with a warning, told once.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._candidates = spaced(samples, PANEL_SIZE)
        self._samples: list[Sample] = []
        self._pixels: list[NDArray[np.uint8]] | None = None

    def __call__(self, model: PixelLLM) -> list[PanelCaption]:
        """Caption them; nothing where there is no picture."""
        if self._pixels is None:
            # Not before the first validation: the Trainer has given the model its preprocessing by then.
            self._read_pictures(model.preprocessing.image_size)
        pixels = self._pixels or []
        if not pixels:
            return []
        images = torch.from_numpy(np.stack(pixels))
        captions = model.generate(images, max_length=min(PANEL_MAX_LENGTH, model.config.max_seq_len))
        return [
            PanelCaption(
                image=os.path.abspath(sample.image_path),  # noqa: PTH100  a packed picture is no Path
                caption=caption,
                references=tuple(sample.captions),
                pixels=picture.transpose(1, 2, 0),
            )
            for sample, caption, picture in zip(self._samples, captions, pixels, strict=True)
        ]

    def _read_pictures(self, image_size: tuple[int, int]) -> None:
        self._pixels = []
        for sample in self._candidates:
            try:
                self._pixels.append(scaled(open_pixels(sample.image_path, at_least=image_size), image_size))
            except DatasetError as error:
                logger.warning("Left out of the pictures captioned at each validation: %s", error)
            else:
                self._samples.append(sample)


class PanelFile:
    """A callback of the Trainer that keeps what is said of the panel, a line a validation, and shows a part in the log.

    Like `metrics.jsonl` the file is only appended to, with a line where a run begins or resumes, so that `read_metrics`
    leaves out what was superseded.
    """

    def __init__(self, path: Path) -> None:
        self._log = MetricsLog(path)

    def __call__(self, event: Event) -> None:
        """Write a line where `event` is of the panel, or of a run's start."""
        place = {"step": event.step, "epoch": event.epoch, "elapsed_seconds": round(event.elapsed_seconds, 3)}
        if isinstance(event, RunStartEvent):
            self._log.append("start", place)
        elif isinstance(event, PanelEvent):
            for each in spaced(event.captions, NUM_LOGGED):
                logger.info("    %s: %s", escaped(PurePath(each.image).name), one_line(each.caption) or "(nothing)")
            entries = [
                {"image": each.image, "caption": each.caption, "references": list(each.references)}
                for each in event.captions
            ]
            self._log.append("panel", place | {"captions": entries})


def write_pictures(folder: RunFolder, samples: Sequence[Sample], *, title: str, device: torch.device) -> None:
    """Write the run's contact sheet, captioned by its best checkpoint, and its curve."""
    captioner = Captioner.from_checkpoint(folder.path, device=device)
    image_size = captioner.model.preprocessing.image_size
    opened = list(_opened(spaced(samples, SHEET_SIZE), image_size))
    captions = captioner.caption([image for _, image in opened])
    pictures = [
        CaptionedPicture(image=image, caption=caption, references=sample.captions)
        for (sample, image), caption in zip(opened, captions, strict=True)
    ]
    if pictures:
        contact_sheet(pictures, folder.samples, title=title)
    training_curve(read_metrics(folder.metrics), folder.curve, title=folder.path.name)


def _opened(samples: Sequence[Sample], image_size: tuple[int, int]) -> Iterator[tuple[Sample, Image.Image]]:
    """Each sample with its picture, decoded as in training. One that cannot be read is left out with a warning: no run
    is lost to a look.
    """
    for sample in samples:
        try:
            yield sample, open_image(sample.image_path, at_least=image_size)
        except DatasetError as error:
            logger.warning("Left out of the contact sheet: %s", error)
