"""A torch scheduler of the user's is moved on at its moments, resumes to the same bits, is refused where it clashes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import Event, StepEvent
from tests.training.test_resume import assert_same_run, stop_at

MakeTrainer = Callable[..., Trainer]
MakeScheduler = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]


def sequential(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3)
    return lr_scheduler.SequentialLR(optimizer, [warmup, lr_scheduler.ExponentialLR(optimizer, 0.7)], milestones=[3])


SCHEDULERS: dict[str, MakeScheduler] = {
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=9),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "SequentialLR": sequential,
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=0, threshold=0.5
    ),
}


@pytest.fixture
def scheduled(tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any) -> Callable[..., Trainer]:
    """Call it as `scheduled(folder, make_scheduler, **Trainer's settings)`."""

    def make(folder: str, make_scheduler: MakeScheduler, **settings: Any) -> Trainer:
        model = tiny_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        val_loader = shapes_loader(4, shuffle=False)
        return tiny_trainer(
            folder, model=model, optimizer=optimizer, scheduler=make_scheduler(optimizer),
            **{"val_loader": val_loader, "max_checkpoints": 9} | settings,
        )  # fmt: skip

    return make


def note_rates(trainer: Trainer) -> list[float]:
    """The rate after each step, filled in as the trainer trains."""
    rates: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, StepEvent):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer._recorder.callbacks.append(note)
    return rates


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_resume_ends_in_the_same_bits(scheduled: Any, name: str, interval: str) -> None:
    """Nine steps of three epochs, stopped in the second."""
    unbroken = scheduled("unbroken", SCHEDULERS[name], scheduler_interval=interval)
    rates = note_rates(unbroken)
    unbroken.train(3)
    assert len(set(rates)) > 1
    stopped = scheduled("broken", SCHEDULERS[name], scheduler_interval=interval)
    stop_at(5, stopped)
    stopped.train(3)
    resumed = scheduled("broken", SCHEDULERS[name], scheduler_interval=interval)
    rates_after = note_rates(resumed)
    resumed.train(3, resume_from="step_5")
    assert rates_after == rates[5:]
    assert_same_run(resumed, unbroken)
    assert resumed.optimizer.param_groups[0]["lr"] == unbroken.optimizer.param_groups[0]["lr"]


def test_the_rates_are_those_of_a_loop_by_hand(scheduled: Any) -> None:
    """Nine steps in three epochs."""
    for interval, moved_after in (("step", range(1, 10)), ("epoch", (3, 6, 9))):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.AdamW([parameter], lr=0.01)
        scheduler = SCHEDULERS["CosineAnnealingLR"](optimizer)
        expected = []
        for step in range(1, 10):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step in moved_after:
                scheduler.step()
        trainer = scheduled(interval, SCHEDULERS["CosineAnnealingLR"], scheduler_interval=interval)
        used = []
        trainer.optimizer.register_step_pre_hook(lambda own, *_, used=used: used.append(own.param_groups[0]["lr"]))
        trainer.train(3)
        assert used == expected
        assert trainer.optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_one_that_follows_a_metric_is_given_each_validation_loss(scheduled: Any) -> None:
    given: list[float] = []

    class Noting(lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: Any = None) -> None:
            given.append(float(metrics))
            super().step(metrics, epoch)

    trainer = scheduled("run", Noting, max_steps=7, scheduler_interval="epoch")
    assert trainer.train()["val_losses"] == given
    assert len(given) == 7


def test_a_validation_ends_with_its_move_in_the_checkpoint(scheduled: Any) -> None:
    """The checkpoint of a validation holds the rate that the scheduler chose at it: halved after epochs 2 and 3."""
    trainer = scheduled("run", SCHEDULERS["ReduceLROnPlateau"])
    trainer.train(3)
    resumed = scheduled("run", SCHEDULERS["ReduceLROnPlateau"])
    resumed.resume("epoch_3")
    assert resumed.optimizer.param_groups[0]["lr"] == trainer.optimizer.param_groups[0]["lr"] == 0.0025


def test_a_step_by_itself_moves_it_too(scheduled: Any) -> None:
    trainer = scheduled("run", SCHEDULERS["LambdaLR"])
    trainer.train_step(next(iter(trainer.train_loader)))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.005


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"schedule": "cosine"}, r"scheduler= and schedule='cosine' both move the learning rate"),
        ({"warmup_steps": 3}, r"scheduler= and warmup_steps=3 both move"),
        ({"warmup_fraction": 0.1}, r"scheduler= and warmup_fraction=0\.1 both move"),
        ({"scheduler_interval": "batch"}, r"scheduler_interval must be one of 'step', 'epoch', not 'batch'"),
    ],
)
def test_settings_that_clash(scheduled: Any, settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        scheduled("run", SCHEDULERS["LambdaLR"], **settings)


def test_a_loss_to_follow_is_needed(scheduled: Any) -> None:
    with pytest.raises(ConfigError, match="ReduceLROnPlateau follows the validation loss: pass val_loader="):
        scheduled("run", SCHEDULERS["ReduceLROnPlateau"], val_loader=None)


def test_a_scheduler_of_another_optimizer_or_of_none(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    model = tiny_model()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2)]
    scheduler = lr_scheduler.ConstantLR(optimizers[0])
    for optimizer in (None, optimizers[1]):
        with pytest.raises(ConfigError, match="This ConstantLR moves another optimizer than the Trainer's"):
            tiny_trainer(model=model, optimizer=optimizer, scheduler=scheduler)
    with pytest.raises(ConfigError, match=r"scheduler must be one of torch\.optim\.lr_scheduler.* not a float"):
        tiny_trainer(model=model, optimizer=optimizers[0], scheduler=0.1)


def test_a_state_that_cannot_be_saved_is_told_before_training(scheduled: Any) -> None:
    class WithObject(lr_scheduler.ConstantLR):
        def __init__(self, optimizer: Any, extra: Any) -> None:
            self.extra = extra
            super().__init__(optimizer)

    with pytest.raises(ConfigError, match=r"cannot be saved in a checkpoint\. WithObject/extra: a object"):
        scheduled("run", lambda optimizer: WithObject(optimizer, object()))
    with pytest.raises(ConfigError, match=r"cannot be saved in a checkpoint: WithObject/extra is a tensor"):
        scheduled("run", lambda optimizer: WithObject(optimizer, torch.zeros(2)))


def test_one_that_is_shorter_than_the_run_says_so_and_what_is_learned_is_kept(scheduled: Any) -> None:
    trainer = scheduled("run", lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4))
    with pytest.raises(ConfigError, match=r"The OneCycleLR cannot be moved on by another step: .* as long as the run"):
        trainer.train(3)
    assert trainer.checkpoint_manager.latest() is not None


def test_a_resume_with_another_kind_of_scheduler_is_refused(scheduled: Any, tiny_trainer: MakeTrainer) -> None:
    scheduled("run", SCHEDULERS["LambdaLR"]).train(1)
    with pytest.raises(CheckpointError, match="saved with a LambdaLR, and this Trainer has a CosineAnnealingLR"):
        scheduled("run", SCHEDULERS["CosineAnnealingLR"]).resume()
    model = scheduled("other", SCHEDULERS["LambdaLR"]).model
    without = tiny_trainer("run", model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.01))
    with pytest.raises(CheckpointError, match="saved with a LambdaLR, and this Trainer has no scheduler"):
        without.resume()
    assert without.state.step == 0


def test_a_checkpoint_saved_by_hand_leaves_the_scheduler_as_it_is(scheduled: Any) -> None:
    trainer = scheduled("run", SCHEDULERS["LambdaLR"])
    trainer.checkpoint_manager.save("mine", model=trainer.model, optimizer=trainer.optimizer, epoch=1)
    trainer.train(2, resume_from="mine")
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01 / 4
