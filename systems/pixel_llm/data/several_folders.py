"""Several data folders as one data set: a picture in two of them counts once, and weights say how often pictures come.

No reader follows a link out of its folder, so that two folders share pictures only where one lies inside the other. The
inner one, which somebody named beside the outer one on purpose, has them. The outer one leaves them out before anything
is divided: else it could train on what the inner one validates on.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.options import MAX_WEIGHT
from systems.pixel_llm.data.readers.reader import Reading
from systems.pixel_llm.data.samples import Sample, SampleTable
from systems.pixel_llm.errors import ConfigError

__all__ = ["sample_weights", "without_shared_pictures"]

logger = logging.getLogger(__name__)


def without_shared_pictures(readings: Sequence[Reading]) -> list[Reading]:
    """The readings of different folders, each without the pictures of those inside it; a warning tells how many."""
    tops = [os.path.join(os.path.realpath(reading.dataset_dir), "") for reading in readings]  # noqa: PTH118
    left: list[Reading] = []
    for reading, top in zip(readings, tops, strict=True):
        inner = [other for other, below in zip(readings, tops, strict=True) if below != top and below.startswith(top)]
        if not inner:
            left.append(reading)
            continue
        taken = {os.path.realpath(name) for other in inner for name in other.samples.names}
        rows = [row for row, name in enumerate(reading.samples.names) if os.path.realpath(name) not in taken]
        if num_shared := len(reading.samples) - len(rows):
            logger.warning(
                "%s is inside %s: the %d pictures that both have count as part of the inner folder.",
                ", ".join(shown(other.dataset_dir) for other in inner), shown(reading.dataset_dir), num_shared,
            )  # fmt: skip
        left.append(_of_rows(reading, rows) if num_shared else reading)
    return left


def sample_weights(
    samples: Sequence[Sample], reading: Reading, *, weight: float, use_repeats: bool
) -> NDArray[np.float64]:
    """[count] how often each of `samples`, a part of the reading, comes in an epoch.

    Raises:
        ConfigError: a picture would come more than `MAX_WEIGHT` times.
    """
    weights = np.full(len(samples), float(weight))
    if use_repeats and reading.repeats is not None:
        repeats = dict(zip(reading.samples.names, reading.repeats.tolist(), strict=True))
        weights *= [repeats[name] for name in SampleTable.of(samples).names]
        if weights.max(initial=0.0) > MAX_WEIGHT:
            raise ConfigError(
                f"repeats='use' would show pictures of {shown(reading.dataset_dir)} {weights.max():,g} times in an "
                f"epoch, of at most {MAX_WEIGHT:,g}: the N of their folder N_name times the weight. Give the folder a "
                f"lower one with weights, at most {weight * MAX_WEIGHT / weights.max():g}."
            )
    return weights


def _of_rows(reading: Reading, rows: Sequence[int]) -> Reading:
    samples = reading.samples.select(rows)
    kept = set(samples.names)

    def part_left(part: SampleTable) -> SampleTable:
        return part.select(row for row, name in enumerate(part.names) if name in kept)

    return replace(
        reading,
        samples=samples,
        split={name: part_left(part) for name, part in reading.split.items()},
        repeats=None if reading.repeats is None else reading.repeats[list(rows)],
    )
