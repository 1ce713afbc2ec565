"""The learning rate as a Trainer sets it, step by step: schedules, warm-ups, parts, and all of it after a resume."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import Trainer
from tests.training.test_resume import assert_same_run, stop_at

MakeTrainer = Callable[..., Trainer]


def used_rates(trainer: Trainer) -> list[list[float]]:
    """The rates of all groups at each optimizer step, filled in as the trainer trains."""
    rates: list[list[float]] = []
    trainer.optimizer.register_step_pre_hook(lambda own, *_: rates.append([group["lr"] for group in own.param_groups]))
    return rates


def first_rates(trainer: Trainer, *arguments: Any) -> list[float]:
    rates = used_rates(trainer)
    trainer.train(*arguments)
    return [step[0] for step in rates]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # At the middle of each of ten steps.
        ({"schedule": "linear", "warmup_fraction": 0.0}, [0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25, 0.15, 0.05]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.25, 0.75, *(1 - each / 16 for each in range(1, 16, 2))]),
        ({"schedule": "constant", "warmup_steps": 4}, [0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "wsd", "warmup_steps": 1, "decay_fraction": 0.3}, [0.5, 1, 1, 1, 1, 1, 1, 5 / 6, 0.5, 1 / 6]),
        (
            {"schedule": "wsd", "warmup_fraction": 0.0, "min_learning_rate_fraction": 0.5},
            [1, 1, 1, 1, 1, 1, 1, 1, 0.875, 0.625],
        ),
        ({"schedule": "constant"}, [1.0] * 10),  # a warm-up of 0.05 of ten steps is half a step
    ],
)
def test_the_rate_of_each_step(tiny_trainer: MakeTrainer, settings: dict[str, Any], expected: list[float]) -> None:
    rates = first_rates(tiny_trainer(learning_rate=0.01, max_steps=10, **settings))
    assert rates == pytest.approx([0.01 * factor for factor in expected])


@pytest.mark.parametrize("bound", [{"max_steps": 8}, {}])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_resume_at_any_step_goes_on_with_the_same_rates(
    tiny_trainer: MakeTrainer, bound: dict[str, int], step: int
) -> None:
    """Inside the warm-up, at its end and in the descent, of a run bounded by steps or by epochs (nine steps)."""
    settings = {"schedule": "wsd", "warmup_steps": 2, "decay_fraction": 0.5, "learning_rates": "decoder=5e-4", **bound}
    num_epochs = [] if bound else [3]
    unbroken = tiny_trainer("unbroken", **settings)
    rates = first_rates(unbroken, *num_epochs)
    stopped = tiny_trainer("broken", **settings)
    stop_at(step, stopped)
    stopped.train(*num_epochs)
    resumed = tiny_trainer("broken", **settings)
    resumed.resume(f"step_{step}")
    assert first_rates(resumed, *num_epochs) == rates[step:]
    assert_same_run(resumed, unbroken)


def test_warmup_steps_are_so_many_also_where_the_clock_ends_the_run(tiny_trainer: MakeTrainer) -> None:
    """A clock that a step takes 1 s of, and each step of the descent 2 s: a budget of 30 s."""
    trainer = tiny_trainer(schedule="linear", learning_rate=1.0, warmup_steps=6, max_minutes=0.5)
    rates = used_rates(trainer)
    now = [0.0]
    trainer._recorder.clock = lambda: now[0]

    def pass_time(event: Any) -> None:
        if type(event).__name__ == "StepEvent":
            now[0] += 1.0 if event.step <= 6 else 2.0

    trainer._recorder.callbacks.append(pass_time)
    trainer.train()
    factors = [step[0] for step in rates]
    assert factors[:6] == pytest.approx([(step + 0.5) / 6 for step in range(6)])
    assert factors[6:] == sorted(factors[6:], reverse=True)
    assert 0.8 < factors[6] <= 1.0
    assert factors[-1] < 0.2, "what is known of the clock at a step is the end of the step before"
    assert trainer.stop_reason == "max_minutes"


def test_parts_follow_the_schedule_each_from_its_own_peak(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer(
        learning_rate=1e-2, learning_rates={"encoder": 1e-4, "decoder.norm": 1e-3}, schedule="linear", max_steps=5,
        warmup_fraction=0.0,
    )  # fmt: skip
    rates = used_rates(trainer)
    trainer.train()
    assert [group["part"] for group in trainer.optimizer.param_groups] == ["", "", "encoder", "encoder", "decoder.norm"]
    for step, found in enumerate(rates):
        factor = 0.9 - 0.2 * step
        assert found == pytest.approx([1e-2 * factor] * 2 + [1e-4 * factor] * 2 + [1e-3 * factor])


def test_a_smaller_rate_of_a_part_moves_it_less(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    model = tiny_model(dropout=0.0)
    before = {name: value.detach().clone() for name, value in model.encoder.named_parameters()}
    trainer = tiny_trainer(model=model, learning_rate=1e-2, learning_rates="encoder=1e-6", weight_decay=0.0)
    trainer.train(1)
    moved = [(value - before[name]).abs().max().item() for name, value in model.encoder.named_parameters()]
    assert 0 < max(moved) <= 4e-6


def test_rates_of_parts_may_be_others_after_a_resume(tiny_trainer: MakeTrainer) -> None:
    tiny_trainer(learning_rates="encoder=1e-4", freeze="decoder.position_embedding").train(1)
    trainer = tiny_trainer(learning_rates="decoder.norm=2e-3,encoder=5e-4", weight_decay=0.2)
    trainer.resume()
    groups = trainer.optimizer.param_groups
    assert [(group["part"], group["initial_lr"], group["weight_decay"]) for group in groups] == [
        ("", 1e-3, 0.2), ("", 1e-3, 0.0), ("decoder.norm", 2e-3, 0.0), ("encoder", 5e-4, 0.2), ("encoder", 5e-4, 0.0),
    ]  # fmt: skip
    trainer.train(2)


def test_rates_of_parts_need_the_trainer_s_own_optimizer(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="learning_rates are those of the default optimizer"):
        tiny_trainer(model=model, optimizer=optimizer, learning_rates="encoder=0.1")


class NoLength:
    """A loader that does not tell how many batches it has."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.dataset = loader, loader.dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


def test_warmup_steps_in_epochs_of_unknown_length(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    """Progress then moves at the ends of epochs of three steps: the warm-up counts its steps all the same."""
    trainer = tiny_trainer(train_loader=NoLength(shapes_loader()), learning_rate=1.0, schedule="linear", warmup_steps=2)
    rates = first_rates(trainer, 2)
    assert rates[:3] == pytest.approx([0.25, 0.75, 1.0])
    assert 1 > rates[3] > rates[4] > rates[5] > 0
