"""Callbacks as callables and as objects: who is told what, what is refused, what an error of theirs does."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.callbacks import listener_of
from systems.pixel_llm.training.events import CheckpointEvent, EpochEvent, Event, StepEvent, ValidationEvent

MakeTrainer = Callable[..., Trainer]


class Everything:
    """All methods there are; `on_gpu` is none."""

    on_gpu = False

    def __init__(self) -> None:
        self.told: list[Event] = []

    def on_step(self, event: StepEvent) -> None:
        self.told.append(event)

    def on_validation(self, event: ValidationEvent) -> None:
        self.told.append(event)

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        self.told.append(event)

    def on_epoch_end(self, event: EpochEvent) -> None:
        self.told.append(event)


class StepsOnly:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step(self, event: StepEvent) -> None:
        self.steps.append(event.step)


def test_methods_get_the_events_they_are_for(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    everything, steps, events = Everything(), StepsOnly(), []
    trainer = tiny_trainer(val_loader=shapes_loader(4, shuffle=False), callbacks=[everything, steps, events.append])
    trainer.train(1)
    kinds = [StepEvent, StepEvent, StepEvent, ValidationEvent, EpochEvent, CheckpointEvent]
    assert [type(event) for event in everything.told] == kinds
    assert steps.steps == [1, 2, 3]
    assert [type(event) for event in events if type(event) in kinds] == kinds
    assert everything.told[0].samples_seen == 4


def test_what_they_get_cannot_be_changed(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    everything = Everything()
    tiny_trainer(
        val_loader=shapes_loader(4, shuffle=False), callbacks=[everything], learning_rates="encoder=1e-4"
    ).train(1)
    for event in everything.told:
        with pytest.raises(FrozenInstanceError):
            event.step = 0  # type: ignore[misc]
    step, validation = everything.told[0], everything.told[3]
    for mapping in (step.learning_rates, validation.scores):
        with pytest.raises(TypeError):
            mapping["encoder"] = 1.0


class Misspelt:
    def on_steps(self, event: StepEvent) -> None: ...


class Unlike:
    def on_step(self, event: StepEvent) -> None: ...

    def on_fire(self, event: Event) -> None: ...


class Both:
    def __call__(self, event: Event) -> None: ...

    def on_step(self, event: StepEvent) -> None: ...


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (Misspelt(), r"callback Misspelt has a method 'on_steps' that is never called\. Did you mean 'on_step'\?"),
        (
            Unlike(),
            r"'on_fire' that is never called\. Known names: on_checkpoint, on_epoch_end, on_step, on_validation",
        ),
        (Both(), "can be called with every event and has 'on_step'"),
        (StepsOnly, r"StepsOnly is a class\. Give an object of it: callbacks=\[StepsOnly\(\)\]"),
        ("a text", "callback str is neither a callable that takes an event nor has one of the methods on_step,"),
    ],
)
def test_what_would_never_be_called_is_refused_at_once(tiny_trainer: MakeTrainer, callback: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_trainer(callbacks=[callback])


def test_a_callable_stays_what_it_is() -> None:
    events: list[Event] = []
    append = events.append
    assert listener_of(append) is append


def test_an_error_names_its_callback_and_what_was_learned_is_kept(tiny_trainer: MakeTrainer) -> None:
    class Breaks:
        def on_step(self, event: StepEvent) -> None:
            if event.step == 2:
                raise ValueError("my own mistake")

    trainer = tiny_trainer(callbacks=[Breaks()])
    with pytest.raises(ValueError, match="my own mistake") as raised:
        trainer.train(1)
    (note,) = raised.value.__notes__
    assert note.startswith("Raised in the callback ")
    assert note.endswith("Breaks, given a StepEvent.")
    assert trainer.checkpoint_manager.latest().path.name == "step_2"
