"""Ctrl-C: the step is finished, a checkpoint saved, and then the interruption goes on its way."""

import signal
import threading
from collections.abc import Callable

import pytest

from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import CheckpointEvent, Event, StepEvent
from systems.pixel_llm.training.interruption import deferred_interrupt

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
        with deferred_interrupt(lambda: pytest.fail("not ours to handle")):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGINT]


def test_an_error_is_not_hidden_by_the_interruption() -> None:
    stops = []

    def break_after_an_interrupt() -> None:
        with deferred_interrupt(lambda: stops.append(True)):
            signal.raise_signal(signal.SIGINT)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        break_after_an_interrupt()
    assert stops == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_in_another_thread_leaves_signals_alone(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    thread = threading.Thread(target=trainer.train, args=(1,))
    thread.start()
    thread.join(60)
    assert trainer.stop_reason == "epochs"
