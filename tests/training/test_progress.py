"""What a person sees of a run: lines where nothing is set up for them, the user's own log, a bar, or nothing."""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console

from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import EpochEvent, RunEndEvent, RunStartEvent, StepEvent, ValidationEvent
from systems.pixel_llm.training.progress import LogLines, ProgressBar, format_seconds, shown_progress

MakeTrainer = Callable[..., Trainer]
PLACE: dict[str, Any] = {
    "epoch": 1, "step": 30, "elapsed_seconds": 60.0, "progress": 0.25, "total_steps": 120, "num_epochs": 4,
    "samples_seen": 240,
}  # fmt: skip


@contextmanager
def program_without_logging() -> Iterator[None]:
    """The root logger as in a program that set up none; pytest has its own handlers there."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers
    assert logging.getLogger("systems.pixel_llm").handlers == [], "what was added for the run is gone again"


def train(tiny_trainer: MakeTrainer, shapes_loader: Any, progress: str) -> Trainer:
    trainer = tiny_trainer(val_loader=shapes_loader(4, shuffle=False), log_interval=2, progress=progress)
    trainer.train(1)
    return trainer


def test_without_logging_the_lines_are_on_stderr(tiny_trainer: MakeTrainer, shapes_loader: Any, capfd: Any) -> None:
    level = logging.getLogger("systems.pixel_llm").level
    with program_without_logging():
        train(tiny_trainer, shapes_loader, "auto")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 5, err
    assert lines[0].startswith("epoch 1/1 step 2/3 | loss ")
    assert lines[0].endswith(" left")
    assert lines[1].startswith("epoch 1/1 step 3/3 | validation loss ")
    assert lines[1].endswith(" (best)")
    assert lines[2].startswith("epoch 1 complete | train loss ")
    assert lines[3].startswith("checkpoint ")
    assert lines[4] == "epoch 1/1 step 3/3 | end of training (epochs)"
    assert logging.getLogger("systems.pixel_llm").level == level


def test_off_shows_nothing(tiny_trainer: MakeTrainer, shapes_loader: Any, capfd: Any) -> None:
    with program_without_logging():
        train(tiny_trainer, shapes_loader, "off")
    assert capfd.readouterr() == ("", "")


def test_lines_of_a_program_with_logging_reach_its_handler_once(
    tiny_trainer: MakeTrainer, shapes_loader: Any, capfd: Any
) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    level = root.level
    with program_without_logging():
        root.addHandler(logging.StreamHandler(stream))
        root.setLevel(logging.INFO)
        try:
            train(tiny_trainer, shapes_loader, "auto")
        finally:
            root.setLevel(level)
    assert capfd.readouterr() == ("", "")
    assert stream.getvalue().count("end of training") == 1
    assert stream.getvalue().count("validation loss") == 1


def test_lines_stop_with_an_error(tiny_trainer: MakeTrainer, capfd: Any) -> None:
    def fail(event: Any) -> None:
        raise RuntimeError("a callback failed")

    with program_without_logging():
        with pytest.raises(RuntimeError, match="a callback failed"):
            tiny_trainer(callbacks=[fail], progress="auto").train(1)
        capfd.readouterr()
        logging.getLogger("systems.pixel_llm.training").info("after the run")
    assert capfd.readouterr() == ("", "")


def test_the_bar_draws_a_whole_run(
    tiny_trainer: MakeTrainer, shapes_loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("systems.pixel_llm.training.progress.Console", lambda stderr: console)
    train(tiny_trainer, shapes_loader, "auto")
    drawn = screen.getvalue()
    assert "epoch 1/1 step 3/3" in drawn
    assert "100 %" in drawn
    assert "val " in drawn
    assert drawn.rstrip("\n").endswith("\x1b[?25h"), "the cursor is shown again"


def test_the_bar_shows_figures_as_they_become_known() -> None:
    screen = io.StringIO()
    with ProgressBar(Console(file=screen, force_terminal=True, width=120)) as bar:
        for event in (
            RunStartEvent(**PLACE | {"progress": 0.0, "elapsed_seconds": 0.0, "total_steps": None}),
            StepEvent(
                **PLACE, is_logged=False, loss=None, learning_rate=1e-3, images_per_second=None, data_wait_share=None
            ),
            StepEvent(
                **PLACE, is_logged=True, loss=1.23456, learning_rate=1e-3, images_per_second=1234.5, data_wait_share=0.3
            ),
            ValidationEvent(**PLACE, loss=2.5, is_best=True),
            EpochEvent(**PLACE, train_loss=1.0, val_loss=None),
            RunEndEvent(**PLACE, reason="epochs"),
        ):
            bar(event)
    for text in (
        "epoch 2/4 step 30/120",
        "25 %",
        "loss 1.235",
        "val 2.500",
        "images/s",
        "30 % waiting for data",
        "3:00 left",
    ):
        assert text in screen.getvalue()


def test_a_bar_can_be_asked_for_where_there_is_no_terminal() -> None:
    with shown_progress("bar") as shown:
        assert [type(each) for each in shown] == [ProgressBar, LogLines]


def test_lines_say_what_is_known(caplog: Any) -> None:
    lines = LogLines()
    with caplog.at_level("INFO"):
        lines(
            StepEvent(
                **PLACE, is_logged=False, loss=None, learning_rate=1e-3, images_per_second=None, data_wait_share=None
            )
        )
        lines(
            StepEvent(
                **PLACE, is_logged=True, loss=1.25, learning_rate=1e-3, images_per_second=10.0, data_wait_share=0.25
            )
        )
        unbounded = PLACE | {"progress": 0.0, "total_steps": None, "num_epochs": None}
        lines(
            StepEvent(
                **unbounded, is_logged=True, loss=1.25, learning_rate=1e-3, images_per_second=10.0, data_wait_share=0.02
            )
        )
        lines(ValidationEvent(**PLACE, loss=2.5, is_best=False))
    assert caplog.messages == [
        (
            "epoch 2/4 step 30/120 | loss 1.2500 | learning rate 1.00e-03 | 10.0 images/s | 25 % waiting for data"
            " | 3:00 left"
        ),
        "epoch 2 step 30 | loss 1.2500 | learning rate 1.00e-03 | 10.0 images/s",
        "epoch 2/4 step 30/120 | validation loss 2.5000",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3599.7, "1:00:00"), (11100, "3:05:00")],
)
def test_seconds_as_a_person_reads_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
