"""What a person sees while a model learns: a bar on a terminal, or one line per log interval.

Both are callbacks. The lines go to the logger `systems.pixel_llm.training`; where the program has set up no logging at
all, and no bar is drawn, they are shown on stderr for the time of the run.
"""

import logging
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from systems.pixel_llm.training.callbacks import Listener
from systems.pixel_llm.training.events import (
    BadPictureEvent,
    CheckpointEvent,
    EpochEvent,
    Event,
    RunEndEvent,
    RunStartEvent,
    StepEvent,
    ValidationEvent,
)
from systems.pixel_llm.training.picture_use import picture_alarm

__all__ = ["LogLines", "ProgressBar", "format_seconds", "shown_progress"]

PACKAGE_LOGGER = "systems.pixel_llm"
TOLD_WAIT_SHARE = 0.1
"""Below this, data are not what a run waits for."""
SCORE_NAMES = {"cider_d": "CIDEr-D", "distinct_captions": "distinct captions"}
"""As people write them."""

logger = logging.getLogger(__name__)


@contextmanager
def shown_progress(progress: str) -> Iterator[list[Listener]]:
    """The callbacks that show a run: `progress` is "auto", "bar" or "off". The bar is closed, and a handler that was
    added for the lines is removed, when the context ends.
    """
    console = Console(stderr=True)
    if progress == "bar" or (progress == "auto" and console.is_terminal):
        with ProgressBar(console) as bar:
            yield [bar, LogLines(step_level=logging.DEBUG)]
    elif progress == "off" or logging.getLogger(PACKAGE_LOGGER).hasHandlers():
        yield [LogLines()]
    else:
        with _lines_on_stderr():
            yield [LogLines()]


class LogLines:
    """Writes a line to the log for each log interval, validation, epoch, checkpoint and picture left out.

    Those of log intervals are of `step_level`: above a bar, which shows the same, they would only scroll the rest away.
    """

    def __init__(self, *, step_level: int = logging.INFO) -> None:
        self._step_level = step_level
        self._is_alarmed = False

    def __call__(self, event: Event) -> None:
        """Log `event` if it is one worth a line."""
        if isinstance(event, StepEvent) and event.is_logged:
            logger.log(
                self._step_level,
                "%s | loss %.4f | learning rate %.2e | %.1f images/s%s%s",
                _position(event), event.loss, event.learning_rate, event.images_per_second,
                f" | {waiting}" if (waiting := _waiting(event.data_wait_share)) else "",
                f" | {time_left}" if (time_left := _time_left(event)) else "",
            )  # fmt: skip
        elif isinstance(event, ValidationEvent):
            best = " (best)" if event.is_best else ""
            gap = "" if event.shuffled_loss_gap is None else f", with wrong pictures {event.shuffled_loss_gap:+.3f}"
            logger.info("%s | validation loss %.4f%s%s%s", _position(event), event.loss, gap, _scores(event), best)
            self._watch_picture_use(event)
        elif isinstance(event, EpochEvent):
            logger.info("epoch %d complete | train loss %.4f", event.epoch, event.train_loss)
        elif isinstance(event, BadPictureEvent):
            logger.warning("Left out: %s", event.reason)
        elif isinstance(event, CheckpointEvent):
            logger.info("checkpoint %s", event.path)
        elif isinstance(event, RunEndEvent):
            logger.info("%s | end of training (%s)", _position(event), event.reason)

    def _watch_picture_use(self, event: ValidationEvent) -> None:
        """Warn where a model begins to be one that should look at its pictures and does not."""
        alarm = picture_alarm(
            shuffled_loss_gap=event.shuffled_loss_gap,
            distinct_captions=event.scores.get("distinct_captions"),
            progress=event.progress,
            step=event.step,
        )
        if alarm is not None and not self._is_alarmed:
            logger.warning("%s", alarm)
        self._is_alarmed = alarm is not None


class ProgressBar:
    """A `rich` bar on stderr: epoch, step, losses, images a second, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:3.0f} %"),
            _Figures(table_column=Column(no_wrap=True)),  # else rich gives the width to the bar and breaks the line
            console=console,
            expand=True,
            # Nothing on stdout is ours: captions and results of the program stay as they are.
            redirect_stdout=False,
        )
        self._task = self._progress.add_task(
            "starting", total=1.0, loss=None, val_loss=None, scores="", speed=None, waiting="", left=""
        )

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Bring the bar up to `event`."""
        fields: dict[str, Any] = {"left": _time_left(event)}
        if isinstance(event, StepEvent):
            waiting = _waiting(event.data_wait_share)
            fields |= {"loss": event.loss, "speed": event.images_per_second, "waiting": waiting}
        elif isinstance(event, ValidationEvent):
            fields["val_loss"] = event.loss
            fields["scores"] = _scores(event, names=("cider_d",))
        elif not isinstance(event, RunStartEvent | RunEndEvent):
            return
        self._progress.update(self._task, completed=event.progress, description=_position(event), **fields)


class _Figures(ProgressColumn):
    """Losses, speed and time left, as far as they are known."""

    def render(self, task: Task) -> Text:
        parts = []
        if task.fields["loss"] is not None:
            parts.append(f"loss {task.fields['loss']:.3f}")
        if task.fields["val_loss"] is not None:
            parts.append(f"val {task.fields['val_loss']:.3f}{task.fields['scores']}")
        if task.fields["speed"] is not None:
            parts.append(f"{task.fields['speed']:,.0f} images/s")
        if task.fields["waiting"]:
            parts.append(task.fields["waiting"])
        if task.fields["left"]:
            parts.append(task.fields["left"])
        return Text(" · ".join(parts))


def _waiting(share: float | None) -> str:
    """What to say where a good part of the time passes without work."""
    return "" if share is None or share < TOLD_WAIT_SHARE else f"{share:.0%} waiting for data".replace("%", " %")


def _scores(event: ValidationEvent, *, names: Container[str] | None = None) -> str:
    """The scores of captions (of `names` alone, if given), to be put after the loss."""
    scores = {name: score for name, score in event.scores.items() if names is None or name in names}
    return "".join(f", {SCORE_NAMES.get(name, name)} {score:.3f}" for name, score in scores.items())


def format_seconds(seconds: float) -> str:
    """Seconds as a person reads them: 0:07, 12:30, 3:05:00."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _position(event: Event) -> str:
    epochs = f"/{event.num_epochs}" if event.num_epochs is not None else ""
    steps = f"/{event.total_steps}" if event.total_steps is not None else ""
    # The epoch under way, counted from 1; at the very end the last one.
    epoch = event.epoch + 1 if event.num_epochs is None else min(event.epoch + 1, event.num_epochs)
    return f"epoch {epoch}{epochs} step {event.step}{steps}"


def _time_left(event: Event) -> str:
    if event.progress <= 0 or event.elapsed_seconds <= 0:
        return ""
    return format_seconds(event.elapsed_seconds * (1 - event.progress) / event.progress) + " left"


@contextmanager
def _lines_on_stderr() -> Iterator[None]:
    package_logger = logging.getLogger(PACKAGE_LOGGER)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = package_logger.level
    package_logger.addHandler(handler)
    package_logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        package_logger.removeHandler(handler)
        package_logger.setLevel(level)
