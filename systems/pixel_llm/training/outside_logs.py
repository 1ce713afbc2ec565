"""What a run tells programs that show runs side by side: TensorBoard and Weights & Biases (`log_to`).

They get the figures of `metrics.jsonl` under the same names (`train/loss`, `validation/scores/cider_d`), and what the
model says of the panel's pictures. No run is lost to a log: one that fails is named in a warning and is told nothing
more. Of several processes that train together the first one alone tells.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from systems.pixel_llm.training.panel import PanelCaption
from systems.pixel_llm.training.tensorboard_log import TensorBoardLog
from systems.pixel_llm.training.wandb_log import WandbLog

__all__ = ["OutsideLog", "OutsideLogs", "make_outside_logs"]

logger = logging.getLogger(__name__)


class OutsideLog(Protocol):
    """One program that shows runs. Any of the methods may raise anything."""

    name: str
    """As people call it."""

    def begin(self, *, step: int) -> None:
        """A run begins or resumes at `step`: what was told of later steps is superseded."""

    def add_figures(self, figures: Mapping[str, float], *, step: int) -> None:
        """Figures, by name, as they were after `step`."""

    def add_captions(self, captions: Sequence[PanelCaption], *, step: int) -> None:
        """What the model said of the panel after `step`."""

    def end(self, *, is_complete: bool) -> None:
        """The run stops here, at its end or by an error; called once after each `begin`."""


def make_outside_logs(names: Sequence[str], folder: Path, *, settings: Mapping[str, Any]) -> "OutsideLogs":
    """The logs of these names; none in a process that is not the first of those that train together.

    Args:
        names: "tensorboard", "wandb".
        folder: of the run; each writes into a folder of its own in there.
        settings: of the run, to be shown beside it.

    Raises:
        ConfigError: a package is not installed.
    """
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if is_distributed and torch.distributed.get_rank() != 0:
        return OutsideLogs([])
    made: list[OutsideLog] = []
    if "tensorboard" in names:
        made.append(TensorBoardLog(folder / "tensorboard"))
    if "wandb" in names:
        made.append(WandbLog(folder, settings=settings))
    return OutsideLogs(made)


class OutsideLogs:
    """All of a run's."""

    def __init__(self, logs: Sequence[OutsideLog]) -> None:
        self._logs = list(logs)
        self._working: list[OutsideLog] = []

    def begin(self, *, step: int) -> None:
        """As of an `OutsideLog`; one that has failed in an earlier run is tried again."""
        self._working = list(self._logs)
        self._tell(lambda log: log.begin(step=step))

    def add(self, kind: str, values: Mapping[str, Any], *, step: int) -> None:
        """The numbers of a record of `metrics.jsonl`, but for those of its start, which are no curves."""
        figures = {} if kind == "start" else dict(_figures(kind, values))
        if figures:
            self._tell(lambda log: log.add_figures(figures, step=step))

    def add_captions(self, captions: Sequence[PanelCaption], *, step: int) -> None:
        """As of an `OutsideLog`."""
        self._tell(lambda log: log.add_captions(captions, step=step))

    def end(self, *, is_complete: bool) -> None:
        """As of an `OutsideLog`; does nothing without a `begin`."""
        self._tell(lambda log: log.end(is_complete=is_complete))
        self._working = []

    def _tell(self, tell: Callable[[OutsideLog], None]) -> None:
        for log in list(self._working):
            try:
                tell(log)
            except Exception as error:  # a full disk, a network that is away: whatever it is, the run goes on
                self._working.remove(log)
                logger.warning(
                    "%s gets nothing more of this run, which goes on: %s: %s", log.name, type(error).__name__, error
                )


def _figures(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers in a record, named by the way to them: train/learning_rates/encoder."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _figures(f"{name}/{key}", each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value
