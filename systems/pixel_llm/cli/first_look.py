"""The quick part of `inspect`, which `train` does before a model is made: what is wrong is told, what is not is silent.

The scan is the cached one, and captions are read but not counted in tokens. Of very many pictures some are looked at.
What inspect would stop for stops training too, but for pictures that cannot be read: those are a matter of
`--on-bad-sample` and `--max-bad-share`, so they are given back.
"""

import logging
from collections.abc import Sequence
from dataclasses import fields
from shlex import quote

from systems.pixel_llm.cli.options import InspectOptions, TrainCommand
from systems.pixel_llm.cli.scan_progress import scan_shown
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.inspection import inspect_samples
from systems.pixel_llm.data.inspection_checks import Check, check_inspection
from systems.pixel_llm.data.inspection_pictures import BadPicture
from systems.pixel_llm.data.options import MixOptions
from systems.pixel_llm.data.same_pictures import MAX_LOOKED_AT
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.errors import DatasetError

__all__ = ["first_look"]

logger = logging.getLogger(__name__)

SAMPLE_SIZE = 5_000
"""Of more pictures than `MAX_LOOKED_AT`, so many a side are looked at, evenly spaced."""


def first_look(
    command: TrainCommand, train: Sequence[Sample], validation: Sequence[Sample], cache: ScanCache
) -> tuple[BadPicture, ...]:
    """Tell what is wrong with the data, in a line each; the pictures seen that cannot be read are given back.

    Raises:
        DatasetError: training should not start.
    """
    is_part = len(train) + len(validation) > MAX_LOOKED_AT
    if is_part:
        train, validation = _spread_out(train), _spread_out(validation)
    scan_shown(cache, list(dict.fromkeys(sample.image_path for sample in (*train, *validation))))
    inspection = inspect_samples(
        train, validation, image_size=max(command.model.image_height_width), max_seq_len=None, cache=cache
    )
    if inspection.bad and command.dataset.on_bad_sample == "raise":
        first = inspection.bad[0]
        raise DatasetError(f"{shown(first.path)} {first.reason}")
    told = [_as_training_does(check) for check in check_inspection(inspection) if check.status != "ok"]
    more = f"More about the data: {_inspect_command(command)}"
    for check in told:
        if check.status == "stop":
            raise DatasetError(f"{check.name}: {check.found}. {check.advice} {more}")
    if told and is_part:
        logger.info("Looked at %d of the pictures:", inspection.num_pictures)
    for check in told:
        logger.warning("%s: %s. %s", check.name, check.found, check.advice)
    if told:
        logger.info("%s", more)
    return inspection.bad


def _spread_out(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[:: max(1, len(samples) // SAMPLE_SIZE)]


def _as_training_does(check: Check) -> Check:
    """Unreadable pictures never stop here, however many."""
    if check.name != "readable pictures":
        return check
    return Check(check.name, "warn", check.found, "Training leaves them out and lists them, up to --max-bad-share.")


def _inspect_command(command: TrainCommand) -> str:
    """The command that reads the same data in the same way."""
    mix, model = command.dataset, command.model
    given = {
        each.name: getattr(mix, each.name) for each in fields(MixOptions) if getattr(mix, each.name) != each.default
    }
    given |= {"val": command.run.val, "val_manifest": mix.val_manifest}
    for name, value in {"image_size": max(model.image_height_width), "max_seq_len": model.max_seq_len}.items():
        if value != getattr(InspectOptions, name):
            given[name] = value
    words = ["pixel-llm", "inspect", *(quote(str(folder)) for folder in command.data)]
    for name, value in given.items():
        if value is not None:
            text = ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", quote(text)]
    return " ".join(words)
