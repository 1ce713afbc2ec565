"""The bounds of a run: in epochs, steps and minutes, each with its end, its share done and its validations.

Time is fed through the recorder's clock: a step and a validation take as long as the test says.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.budget import RunBudget
from systems.pixel_llm.training.events import CheckpointEvent, Event, StepEvent, ValidationEvent

MakeTrainer = Callable[..., Trainer]


def budget(**bounds: Any) -> RunBudget:
    return RunBudget(**{"num_epochs": None, "steps_per_epoch": 10, "max_steps": None, "max_seconds": None} | bounds)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowLoader:
    """A loader whose every pass takes `seconds` on `clock`."""

    def __init__(self, loader: Any, clock: Clock, seconds: float) -> None:
        self.loader, self.clock, self.seconds = loader, clock, seconds
        self.num_passes = 0

    def __iter__(self) -> Any:
        self.num_passes += 1
        self.clock.now += self.seconds
        return iter(self.loader)


class TimedRun:
    """A trainer for which a step takes one second and a validation `validation_seconds`."""

    def __init__(
        self, tiny_trainer: MakeTrainer, shapes_loader: Any, *, validation_seconds: float, **settings: Any
    ) -> None:
        self.clock = Clock()
        self.val_loader = SlowLoader(shapes_loader(2, shuffle=False), self.clock, validation_seconds)
        self.events: list[Event] = []
        train_loader = shapes_loader(16, batch_size=2)
        self.trainer = tiny_trainer(
            train_loader=train_loader, val_loader=self.val_loader, callbacks=[self.on_event], **settings
        )
        self.trainer._recorder.clock = self.clock
        take = self.trainer._take_step

        def slow_step(batch: Any) -> Any:
            self.clock.now += 1
            return take(batch)

        self.trainer._take_step = slow_step  # type: ignore[method-assign]

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def progress(self) -> list[float]:
        return [event.progress for event in self.events]


def test_a_run_needs_an_end() -> None:
    with pytest.raises(ConfigError, match="give num_epochs to train"):
        budget()
    with pytest.raises(ConfigError, match="num_epochs must be at least 1, not 0"):
        budget(num_epochs=0)


@pytest.mark.parametrize(
    ("bounds", "place", "reason"),
    [
        ({"num_epochs": 2}, (1, 19, 0.0), None),
        ({"num_epochs": 2}, (2, 20, 0.0), "epochs"),
        ({"max_steps": 5}, (0, 4, 0.0), None),
        ({"max_steps": 5}, (0, 5, 0.0), "max_steps"),
        ({"max_seconds": 60.0}, (9, 99, 59.0), None),
        ({"max_seconds": 60.0}, (0, 1, 60.0), "max_minutes"),
        ({"num_epochs": 2, "max_steps": 5}, (0, 5, 0.0), "max_steps"),
        ({"num_epochs": 2, "max_seconds": 60.0}, (2, 20, 1.0), "epochs"),
    ],
)
def test_the_bound_reached_first_is_the_reason(bounds: Any, place: tuple[int, int, float], reason: str | None) -> None:
    epoch, step, elapsed = place
    assert budget(**bounds).end_reason(epoch, step, elapsed, 0.0) == reason


def test_time_for_the_last_validation_is_kept_free_up_to_a_quarter() -> None:
    timed = budget(max_seconds=60.0)
    assert timed.end_reason(0, 1, 49.0, 10.0) is None
    assert timed.end_reason(0, 1, 50.0, 10.0) == "max_minutes"
    assert timed.end_reason(0, 1, 44.0, 59.0) is None
    assert timed.end_reason(0, 1, 45.0, 59.0) == "max_minutes"


def test_the_share_done_is_the_largest_over_the_bounds() -> None:
    assert budget(max_steps=8).progress(2, 0, 0.0, 0.0) == 0.25
    assert budget(num_epochs=2).progress(5, 0, 0.0, 0.0) == 0.25
    assert budget(num_epochs=4, steps_per_epoch=None).progress(5, 1, 0.0, 0.0) == 0.25
    assert budget(max_seconds=60.0).progress(5, 0, 15.0, 0.0) == 0.25
    assert budget(max_seconds=60.0).progress(5, 0, 25.0, 10.0) == 0.5
    assert budget(num_epochs=2, max_steps=8, max_seconds=60.0).progress(2, 0, 45.0, 0.0) == 0.75
    assert budget(max_steps=8).progress(9, 0, 0.0, 0.0) == 1.0


@given(
    bounds=st.fixed_dictionaries(
        {},
        optional={
            "num_epochs": st.integers(1, 5), "max_steps": st.integers(1, 60), "max_seconds": st.floats(1.0, 100.0),
        },
    ).filter(bool),
    moves=st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 10.0)), max_size=50),
)  # fmt: skip
def test_the_share_done_never_falls_and_is_whole_at_the_end(bounds: Any, moves: list[tuple[float, float]]) -> None:
    limits, elapsed, longest, last = budget(**bounds), 0.0, 0.0, 0.0
    for step, (seconds, pause) in enumerate(moves, 1):
        elapsed, longest = elapsed + seconds, max(longest, pause)
        share = limits.progress(step, step // 10, elapsed, longest)
        assert last <= share <= 1.0
        assert (share == 1.0) == (limits.end_reason(step // 10, step, elapsed, longest) is not None)
        last = share


def test_total_steps_are_the_bound_or_follow_the_pace() -> None:
    assert budget(max_steps=8, num_epochs=2).total_steps(3, 0.0, 0.0) == 8
    assert budget(num_epochs=2).total_steps(3, 0.0, 0.0) == 20
    assert budget(num_epochs=2, steps_per_epoch=None).total_steps(3, 0.0, 0.0) is None
    timed = budget(max_seconds=60.0)
    assert timed.total_steps(0, 0.0, 0.0) is None
    assert timed.total_steps(10, 6.0, 0.0) == 100
    assert timed.total_steps(10, 6.0, 10.0) == 83
    assert timed.total_steps(10, 600.0, 0.0) == 10


def test_pauses_stay_within_a_fifth_of_a_time_budget_alone() -> None:
    timed = budget(max_seconds=60.0)
    assert timed.has_time_for_pause(6.0, 0.0, 0.0)
    assert not timed.has_time_for_pause(16.0, 10.0, 10.0)
    assert timed.has_time_for_pause(45.0, 5.0, 5.0)
    assert budget(max_steps=60).has_time_for_pause(16.0, 10.0, 10.0)


@pytest.mark.parametrize("validation_seconds", [1.0, 5.0, 10.0])
def test_validations_take_a_fifth_of_a_run_bounded_by_time(
    tiny_trainer: MakeTrainer, shapes_loader: Any, validation_seconds: float
) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=validation_seconds, max_minutes=1.0)
    history = run.trainer.train()
    steps = sum(isinstance(event, StepEvent) for event in run.events)
    at_tenths = len(history["val_losses"]) - 1
    assert run.trainer.stop_reason == "max_minutes"
    assert at_tenths == {1.0: 9, 5.0: 1, 10.0: 1}[validation_seconds]
    assert at_tenths * validation_seconds <= 0.2 * 60 + 1e-9
    assert steps + (at_tenths + 1) * validation_seconds <= 60
    assert history["val_steps"][-1] == run.trainer.state.step == steps, "validated at the very end"
    assert run.progress == sorted(run.progress)
    assert run.progress[-1] == 1.0


def test_a_validation_longer_than_its_share_comes_once_and_at_the_end(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=30.0, max_minutes=1.0)
    assert run.trainer.train()["val_steps"] == [6, 15]


def test_a_resumed_run_knows_what_its_pauses_took(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    first = TimedRun(tiny_trainer, shapes_loader, validation_seconds=10.0, max_minutes=1.0)

    def stop(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 9:
            first.trainer.request_stop()

    first.trainer._recorder.callbacks.append(stop)
    first.trainer.train()
    assert first.trainer.get_history()["val_steps"] == [6]
    second = TimedRun(tiny_trainer, shapes_loader, validation_seconds=10.0, max_minutes=1.0)
    history = second.trainer.train(resume_from="step_9")
    assert history["val_steps"] == [6, 40]
    assert second.trainer.state.elapsed_seconds == pytest.approx(60.0)


def test_a_budget_that_is_used_up_does_nothing_more(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=1.0, max_minutes=0.2)
    history = run.trainer.train()
    events = len(run.events)
    assert run.trainer.train() == history
    assert (run.trainer.stop_reason, len(run.events)) == ("max_minutes", events)


def test_a_run_bounded_by_steps_validates_and_saves_at_tenths(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=1000.0, max_steps=20)
    history = run.trainer.train()
    assert run.trainer.stop_reason == "max_steps"
    assert history["val_steps"] == list(range(2, 21, 2))
    assert len(history["train_losses"]) == 2  # of 8 steps each
    saved = [event.path.name for event in run.events if isinstance(event, CheckpointEvent)]
    # Step 16 ends the second epoch, but is saved as what it is here: a step of a run in steps.
    assert saved == [f"step_{step}" for step in range(2, 21, 2)]
    assert run.progress == sorted(run.progress)


def test_a_run_bounded_by_epochs_validates_and_saves_after_each(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=1000.0)
    history = run.trainer.train(2)
    assert run.trainer.stop_reason == "epochs"
    assert history["val_steps"] == [8, 16]
    assert [event.path.name for event in run.events if isinstance(event, CheckpointEvent)] == ["epoch_1", "epoch_2"]
    assert [event.is_best for event in run.events if isinstance(event, ValidationEvent)] == [True, True]


def test_epochs_and_steps_together_end_with_the_first_and_validate_there(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=0.0, max_steps=11)
    assert run.trainer.train(2)["val_steps"] == [8, 11]
    assert run.trainer.stop_reason == "max_steps"


@pytest.mark.parametrize("schedule", [None, "constant"])
def test_progress_is_told_whoever_sets_the_learning_rate(
    tiny_trainer: MakeTrainer, tiny_model: Any, schedule: str | None
) -> None:
    model, told = tiny_model(), []
    trainer = tiny_trainer(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), schedule=schedule,
        callbacks=[lambda event: told.append(event.progress) if isinstance(event, StepEvent) else None],
    )  # fmt: skip
    trainer.train(2)
    assert told == pytest.approx([step / 6 for step in range(1, 7)])


def test_speed_is_measured_without_the_pauses(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    run = TimedRun(tiny_trainer, shapes_loader, validation_seconds=100.0, log_interval=5)
    run.trainer.train(2)
    speeds = [event.images_per_second for event in run.events if isinstance(event, StepEvent) and event.is_logged]
    assert speeds == pytest.approx([2.0, 2.0, 2.0])
