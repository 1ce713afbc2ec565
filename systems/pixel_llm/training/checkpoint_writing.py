"""One checkpoint onto the disk: what it holds, what its manifest says, and the folder, there whole or not at all."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from systems.pixel_llm.checkpoint_folder import (
    MetricMode,
    check_checkpoint_name,
    is_unreadable,
    scan_checkpoints,
    write_manifest,
)
from systems.pixel_llm.checkpoint_lineage import Lineage
from systems.pixel_llm.errors import CheckpointError, ConfigError, NotSavedError
from systems.pixel_llm.folder_writer import FolderSink, FolderWriter, folder_writer
from systems.pixel_llm.free_space import check_free_space
from systems.pixel_llm.training.checkpoint_contents import (
    num_bytes_of,
    unwrapped,
    write_average,
    write_model,
    write_training_state,
)
from systems.pixel_llm.training.durable import clear_leftovers, durable_folder
from systems.pixel_llm.training.own_run import OwnRun

__all__ = ["CONTENTS", "CheckpointContents", "CheckpointFacts", "WritableFiles", "write_checkpoint"]

logger = logging.getLogger(__name__)


class WritableFiles(Protocol):
    """The files of a checkpoint but for its manifest: those of live objects, or a snapshot of them."""

    @property
    def num_bytes(self) -> int:
        """Of all of them, about."""

    def write_to(self, writer: FolderWriter) -> None:
        """Write all of them."""


@dataclass(frozen=True)
class CheckpointContents:
    """The live objects that a checkpoint holds; see `CheckpointManager.save`."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    training_state: dict[str, Any] | None = None
    average: Mapping[str, Tensor] | None = None

    @property
    def num_bytes(self) -> int:
        """Of the tensors."""
        return num_bytes_of(unwrapped(self.model), self.optimizer, self.average)

    def write_to(self, writer: FolderSink) -> None:
        """Write them as they are now.

        Raises:
            CheckpointError: one of them cannot be saved.
            OSError, SafetensorError: the disk is full or failing.
        """
        model = unwrapped(self.model)
        write_model(model, writer)
        if self.average is not None:
            write_average(self.average, writer)
        write_training_state(writer, model, self.optimizer, training_state=self.training_state)


CONTENTS = tuple(each.name for each in fields(CheckpointContents))
"""The arguments of a save that are objects; the others are facts."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What the manifest says of a checkpoint; see `CheckpointManager.save`.

    Raises:
        ConfigError: the name or the metric cannot be used.
    """

    name: str
    epoch: int = 0
    metric: float | Tensor | None = None
    metric_name: str | None = None
    step: int | None = None
    keep: bool = False
    usable_metric: float | None = field(init=False)
    """`metric` as a finite number, or None."""

    def __post_init__(self) -> None:
        check_checkpoint_name(self.name)
        object.__setattr__(self, "usable_metric", _finite_or_none(self.metric))


def write_checkpoint(
    directory: Path,
    facts: CheckpointFacts,
    contents: WritableFiles,
    *,
    metric_mode: MetricMode,
    own_run: OwnRun,
) -> Lineage:
    """Make `directory/<name>`, on the disk when this returns, in place of an older one of the name.

    Returns:
        The lineage of `own_run`, to which the checkpoint now belongs.

    Raises:
        NotSavedError: it could not be written; what is there is as it was.
        CheckpointError: it holds what cannot be saved, or the folder of this name is no checkpoint.
    """
    path = directory / facts.name
    try:
        clear_leftovers(directory)
        check_free_space(directory, contents.num_bytes)
        lineage, sequence = own_run.of_next_save(scan_checkpoints(directory))
        with durable_folder(directory, facts.name) as working, folder_writer(working) as writer:
            contents.write_to(writer)
            write_manifest(
                working, facts.name, sequence=sequence, epoch=int(facts.epoch), metric=facts.usable_metric,
                keep=facts.keep, metric_name=facts.metric_name, metric_mode=metric_mode, step=facts.step,
                lineage=lineage, digests=writer.digests,
            )  # fmt: skip
    except (OSError, SafetensorError, CheckpointError) as error:
        if isinstance(error, CheckpointError) and not is_unreadable(error):
            raise
        raise NotSavedError(
            f"{path} could not be saved ({error}). Earlier checkpoints are untouched. Make room or make the folder "
            "writable, and save again."
        ) from error
    own_run.note_saved(lineage, sequence)
    return lineage


def _finite_or_none(metric: float | Tensor | None) -> float | None:
    if metric is None:
        return None
    try:
        value = float(metric)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"metric must be a number or None, not {metric!r}.") from error
    if not math.isfinite(value):
        logger.warning("The metric is %s: this checkpoint will never be the best.", value)
        return None
    return value
