"""Ctrl-C: the step is finished, a checkpoint saved, and then the interruption goes on its way."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import CheckpointEvent, Event, StepEvent
from systems.pixel_llm.training.interruption import deferred_stop

MakeTrainer = Callable[..., Trainer]


def interrupt_at(*steps: int) -> Callable[[Event], None]:
    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step in steps:
            signal.raise_signal(signal.SIGINT)

    return callback


def test_ctrl_c_saves_and_then_interrupts(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer(callbacks=[interrupt_at(2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train(2)
    assert (trainer.stop_reason, trainer.state.step) == ("interrupted", 2)
    assert trainer.checkpoint_manager.latest().name == "step_2"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = tiny_trainer()
    resumed.train(2, resume_from="step_2")
    assert resumed.state.step == 6


def test_a_second_ctrl_c_ends_at_once(tiny_trainer: MakeTrainer) -> None:
    def twice(event: Event) -> None:
        if isinstance(event, StepEvent):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    trainer = tiny_trainer(callbacks=[twice])
    with pytest.raises(KeyboardInterrupt):
        trainer.train(2)
    assert trainer.checkpoint_manager.list() == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_the_last_checkpoint_is_written_lets_it_finish(tiny_trainer: MakeTrainer) -> None:
    def callback(event: Event) -> None:
        if isinstance(event, CheckpointEvent):
            signal.raise_signal(signal.SIGINT)

    trainer = tiny_trainer(callbacks=[callback])
    with pytest.raises(KeyboardInterrupt):
        trainer.train(1)
    assert trainer.checkpoint_manager.latest().name == "epoch_1"
    assert trainer.train(1) == trainer.get_history(), "the trainer can be used again"


def test_a_program_s_own_handler_is_left_in_place() -> None:
    received = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        with deferred_stop(lambda: pytest.fail("not ours to handle")):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGINT]


def test_an_error_is_not_hidden_by_the_interruption() -> None:
    stops = []

    def break_after_an_interrupt() -> None:
        with deferred_stop(lambda: stops.append(True)):
            signal.raise_signal(signal.SIGINT)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        break_after_an_interrupt()
    assert stops == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_what_would_have_ended_the_script_ends_it_after_saving(tiny_trainer: MakeTrainer, number: int) -> None:
    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 2:
            signal.raise_signal(number)

    trainer = tiny_trainer(callbacks=[callback])
    with pytest.raises(SystemExit) as ended:
        trainer.train(2)
    assert (ended.value.code, trainer.stop_reason) == (128 + number, "interrupted")
    assert trainer.checkpoint_manager.latest().name == "step_2"
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_a_program_ignores_stays_ignored(tiny_trainer: MakeTrainer) -> None:
    def callback(event: Event) -> None:
        if isinstance(event, StepEvent):
            signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trainer = tiny_trainer(callbacks=[callback])
        trainer.train(1)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert trainer.stop_reason == "epochs"


def test_processes_forked_meanwhile_are_ended_as_ever() -> None:
    """A pool of a callback's own ends its processes by SIGTERM, and waits for them."""
    with deferred_stop(lambda: pytest.fail("the child asked")):
        for number, status in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 7)):
            child = os.fork()
            if child == 0:
                signal.raise_signal(number)
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status


class Stuck(ShapesDataset):
    """Reading its third sample opens a pipe into which nobody writes; a signal comes meanwhile."""

    def __init__(self, pipe: Path, *, signalled: bool = True) -> None:
        super().__init__(12, image_size=32)
        self.pipe, self.signalled = pipe, signalled
        os.mkfifo(pipe)

    def __getitem__(self, index: int) -> Any:
        if index == 2:
            if self.signalled:
                threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
            with suppress(Exception):  # as careless datasets do
                self.pipe.read_bytes()
        return super().__getitem__(index)


def test_ctrl_c_does_not_wait_for_a_sample_that_never_comes(
    tiny_trainer: MakeTrainer, shapes_loader: Any, tmp_path: Path
) -> None:
    trainer = tiny_trainer(train_loader=shapes_loader(dataset=Stuck(tmp_path / "pipe"), shuffle=False, batch_size=1))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(1)
    assert (trainer.stop_reason, trainer.state.step) == ("interrupted", 2)
    assert trainer.checkpoint_manager.latest().name == "step_2"


def test_nor_for_one_of_validation(tiny_trainer: MakeTrainer, shapes_loader: Any, tmp_path: Path) -> None:
    trainer = tiny_trainer(val_loader=shapes_loader(dataset=Stuck(tmp_path / "pipe"), shuffle=False))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(1)
    assert (trainer.state.step, trainer.state.history["val_losses"]) == (3, [])
    assert trainer.checkpoint_manager.latest().name == "epoch_1"


def test_training_in_another_thread_leaves_signals_alone(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    thread = threading.Thread(target=trainer.train, args=(1,))
    thread.start()
    thread.join(60)
    assert trainer.stop_reason == "epochs"
