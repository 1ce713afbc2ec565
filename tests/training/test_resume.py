"""A run stopped at any step and continued by a new process ends in the same weights and history as an unbroken one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import EpochEvent, Event, StepEvent, ValidationEvent

MakeTrainer = Callable[..., Trainer]


def stop_at(step: int, trainer: Trainer) -> None:
    """Have `trainer` asked to stop once it has done `step` steps."""

    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == step:
            trainer.request_stop()

    trainer._recorder.callbacks.append(callback)


def assert_same_run(left: Trainer, right: Trainer) -> None:
    """Weights, moments of the optimizer and histories are equal to the last bit."""
    assert left.get_history() == right.get_history()
    assert left.state.step == right.state.step
    assert left.state.samples_seen == right.state.samples_seen
    left_weights, right_weights = left.model.state_dict(), right.model.state_dict()
    for name, value in left_weights.items():
        assert torch.equal(value, right_weights[name]), name
    left_moments, right_moments = left.optimizer.state_dict()["state"], right.optimizer.state_dict()["state"]
    assert left_moments.keys() == right_moments.keys()
    for index, moments in left_moments.items():
        for name, value in moments.items():
            assert torch.equal(value, right_moments[index][name]), (index, name)


def plain_loader(shapes_loader: Any) -> Any:
    return shapes_loader()


def loader_with_generator(shapes_loader: Any) -> Any:
    return shapes_loader(generator=torch.Generator().manual_seed(5))


def loader_of_parts(shapes_loader: Any) -> Any:
    parts = [ShapesDataset(8, image_size=32), ShapesDataset(6, image_size=32, seed=1)]
    return shapes_loader(dataset=Subset(ConcatDataset(parts), range(1, 13)))


class OwnLoader(DataLoader[Any]):
    """A subclass may do anything, so it is not taken apart."""


def loader_of_own_class(shapes_loader: Any) -> Any:
    plain = shapes_loader()
    return OwnLoader(plain.dataset, batch_size=4, shuffle=True, collate_fn=plain.collate_fn)


LOADERS = [plain_loader, loader_with_generator, loader_of_parts, loader_of_own_class]


@pytest.mark.parametrize("make_loader", LOADERS)
@pytest.mark.parametrize("step", [2, 4])
def test_a_run_stopped_in_an_epoch_resumes_to_the_same_bits(
    tiny_trainer: MakeTrainer, shapes_loader: Any, make_loader: Any, step: int
) -> None:
    val_loader = shapes_loader(6, shuffle=False)
    unbroken = tiny_trainer("unbroken", train_loader=make_loader(shapes_loader), val_loader=val_loader)
    unbroken.train(2)
    stopped = tiny_trainer("broken", train_loader=make_loader(shapes_loader), val_loader=val_loader)
    stop_at(step, stopped)
    stopped.train(2)
    assert (stopped.stop_reason, stopped.state.step) == ("interrupted", step)
    torch.manual_seed(1234)  # another process has drawn other numbers before
    resumed = tiny_trainer("broken", train_loader=make_loader(shapes_loader), val_loader=val_loader)
    resumed.train(2, resume_from=f"step_{step}")
    assert resumed.stop_reason == "epochs"
    assert_same_run(resumed, unbroken)


def test_one_loader_object_gives_the_resumed_trainer_the_same_order(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    loader = loader_with_generator(shapes_loader)
    unbroken = tiny_trainer("unbroken", train_loader=loader)
    unbroken.train(2)
    stopped = tiny_trainer("broken", train_loader=loader)
    stop_at(4, stopped)
    stopped.train(2)
    resumed = tiny_trainer("broken", train_loader=loader)
    resumed.train(2, resume_from="step_4")
    assert_same_run(resumed, unbroken)


def test_an_optimizer_of_the_user_resumes_too(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    def make(folder: str) -> Trainer:
        model = tiny_model()
        return tiny_trainer(folder, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))

    unbroken = make("unbroken")
    unbroken.train(2)
    stopped = make("broken")
    stop_at(4, stopped)
    stopped.train(2)
    resumed = make("broken")
    resumed.train(2, resume_from="step_4")
    assert_same_run(resumed, unbroken)
    assert resumed.optimizer.param_groups[0]["momentum"] == 0.9


def test_a_run_bounded_by_steps_resumes_with_its_validations_at_tenths(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    def make(folder: str) -> Trainer:
        return tiny_trainer(folder, val_loader=shapes_loader(4, shuffle=False), max_steps=11)

    unbroken = make("unbroken")
    unbroken.train()
    stopped = make("broken")
    stop_at(5, stopped)
    stopped.train()
    resumed = make("broken")
    resumed.train(resume_from="step_5")
    assert_same_run(resumed, unbroken)


def test_validation_in_an_epoch_leaves_the_pictures_of_a_shared_dataset_as_they_were(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    """Both loaders look at one dataset, whose epoch is one number: validation must not turn it back for training."""

    def make(folder: str) -> Trainer:
        whole = ShapesDataset(16, image_size=32)
        return tiny_trainer(
            folder, train_loader=shapes_loader(dataset=Subset(whole, range(12))),
            val_loader=shapes_loader(dataset=Subset(whole, range(12, 16)), shuffle=False), max_steps=10,
        )  # fmt: skip

    unbroken = make("unbroken")
    unbroken.train()
    stopped = make("broken")

    def stop_after_validation(event: Event) -> None:
        if isinstance(event, ValidationEvent) and event.step == 4:
            stopped.request_stop()

    stopped._recorder.callbacks.append(stop_after_validation)
    stopped.train()
    resumed = make("broken")
    resumed.train(resume_from="step_4")
    assert_same_run(resumed, unbroken)


def test_training_further_than_planned_at_first_keeps_history_and_learns(tiny_trainer: MakeTrainer) -> None:
    first = tiny_trainer()
    first.train(2)
    longer = tiny_trainer()
    rates: list[float] = []
    longer._recorder.callbacks.append(
        lambda event: rates.append(event.learning_rate) if isinstance(event, StepEvent) else None
    )
    history = longer.train(num_epochs=4, start_epoch=2, resume_from="epoch_2")
    assert len(history["train_losses"]) == 4
    assert history["train_losses"][:2] == first.get_history()["train_losses"]
    # The cosine of four epochs at its middle, not the end of the one of two.
    assert rates[0] == pytest.approx(1e-3 * 0.5, rel=0.15)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_a_second_train_goes_on_from_where_the_first_ended(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    trainer.train(1)
    weight = trainer.model.decoder.token_embedding.weight
    before = weight.detach().clone()
    history = trainer.train(3)
    assert len(history["train_losses"]) == 3
    assert trainer.state.step == 9
    assert (weight - before).abs().max() > 1e-4
    assert trainer.train(3) == history
    assert trainer.state.step == 9


def test_a_second_run_bounded_by_steps_validates_at_its_own_tenths(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    val_loader = shapes_loader(4, shuffle=False)
    first = tiny_trainer(val_loader=val_loader, max_steps=10)
    first.train()
    longer = tiny_trainer(val_loader=val_loader, max_steps=20)
    history = longer.train(resume_from=first.checkpoint_manager.latest().name)
    assert history["val_steps"] == [*range(1, 11), 12, 14, 16, 18, 20]


def test_a_start_epoch_that_differs_from_the_checkpoint_is_refused(tiny_trainer: MakeTrainer) -> None:
    tiny_trainer().train(1)
    with pytest.raises(ConfigError, match=r"start_epoch=2 differs from the 1 completed epochs of checkpoint 'epoch_1'"):
        tiny_trainer().train(num_epochs=4, start_epoch=2, resume_from="epoch_1")
    with pytest.raises(ConfigError, match=r"start_epoch=2 differs from the 0 completed epochs of this trainer"):
        tiny_trainer().train(num_epochs=4, start_epoch=2)


def test_resume_without_a_name_takes_the_newest(tiny_trainer: MakeTrainer) -> None:
    tiny_trainer().train(2)
    trainer = tiny_trainer()
    assert trainer.resume()["name"] == "epoch_2"
    assert (trainer.state.epoch, trainer.state.step) == (2, 6)


def test_a_missing_checkpoint_is_named(tiny_trainer: MakeTrainer) -> None:
    with pytest.raises(CheckpointError, match="epoch_7"):
        tiny_trainer().train(8, resume_from="epoch_7")


def test_a_checkpoint_saved_by_hand_gives_its_epoch(tiny_trainer: MakeTrainer) -> None:
    by_hand = tiny_trainer()
    by_hand.checkpoint_manager.save("mine", model=by_hand.model, optimizer=by_hand.optimizer, epoch=2)
    trainer = tiny_trainer()
    history = trainer.train(3, start_epoch=2, resume_from="mine")
    assert (len(history["train_losses"]), trainer.state.step) == (1, 9)


def test_another_seed_than_the_checkpoint_s_is_warned_of(tiny_trainer: MakeTrainer, caplog: Any) -> None:
    tiny_trainer().train(1)
    with caplog.at_level("WARNING"):
        tiny_trainer(seed=3).resume("epoch_1")
    assert "seed=3 differs from the checkpoint's seed=0" in caplog.text


def test_the_options_rule_the_learning_rate_of_the_default_optimizer_after_a_resume(tiny_trainer: MakeTrainer) -> None:
    tiny_trainer(learning_rate=1e-3).train(1)
    trainer = tiny_trainer(learning_rate=5e-4, weight_decay=0.01)
    trainer.resume("epoch_1")
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [5e-4, 5e-4]
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.01, 0.0]


@pytest.mark.parametrize("settings", [{"num_epochs": 3}, {"max_steps": 9}])
def test_a_validation_that_the_stop_cut_short_is_made_up_for(
    tiny_trainer: MakeTrainer, shapes_loader: Any, settings: dict[str, int]
) -> None:
    """Stopped while validating after step 3: the history must not miss that loss for good."""
    num_epochs, options = settings.get("num_epochs"), {"max_steps": settings.get("max_steps")}
    unbroken = tiny_trainer("unbroken", val_loader=shapes_loader(4, shuffle=False), **options)
    unbroken.train(num_epochs)
    plain = shapes_loader(4, shuffle=False)

    class StoppingLoader:
        dataset = plain.dataset

        def __iter__(self) -> Any:
            if stopped.state.step == 3:
                stopped.request_stop()
            return iter(plain)

    stopped = tiny_trainer("broken", val_loader=StoppingLoader(), **options)
    stopped.train(num_epochs)
    assert 3 not in stopped.get_history()["val_steps"]
    resumed = tiny_trainer("broken", val_loader=plain, **options)
    resumed.resume()
    resumed.train(num_epochs)
    assert_same_run(resumed, unbroken)


@pytest.mark.parametrize("stopped_at", [3, 6])
def test_the_checkpoint_of_a_validation_that_is_made_up_for_has_its_metric(
    tiny_trainer: MakeTrainer, shapes_loader: Any, stopped_at: int
) -> None:
    """Else the best checkpoint would be another than that of the unbroken run; also where the run was at its end."""
    unbroken = tiny_trainer("unbroken", val_loader=shapes_loader(4, shuffle=False))
    unbroken.train(2)
    plain = shapes_loader(4, shuffle=False)

    class StoppingLoader:
        dataset = plain.dataset

        def __iter__(self) -> Any:
            if stopped.state.step == stopped_at:
                stopped.request_stop()
            return iter(plain)

    stopped = tiny_trainer("broken", val_loader=StoppingLoader())
    stopped.train(2)
    assert stopped.checkpoint_manager.latest().metric is None
    resumed = tiny_trainer("broken", val_loader=plain)
    resumed.resume()
    resumed.train(2)
    assert_same_run(resumed, unbroken)
    found, expected = (
        [(each.name, each.metric) for each in trainer.checkpoint_manager.list()] for trainer in (resumed, unbroken)
    )
    assert found == expected


@pytest.mark.parametrize("has_validation", [True, False])
def test_a_run_that_ends_with_the_epoch_whose_last_step_it_resumed_from_saves_that_end(
    tiny_trainer: MakeTrainer, shapes_loader: Any, has_validation: bool
) -> None:
    """`step_6` is saved at the last step of epoch 2, before its validation; killed behind that, the run comes to its
    end without another step.
    """

    def make(folder: str, **settings: Any) -> Trainer:
        return tiny_trainer(
            folder, val_loader=shapes_loader(4, shuffle=False) if has_validation else None, checkpoint_interval=5,
            save_every_steps=3, early_stopping_patience=1, early_stopping_min_delta=100.0, **settings,
        )  # fmt: skip

    def fail(event: Event) -> None:
        if isinstance(event, EpochEvent) and event.step == 6:
            raise SystemExit

    unbroken = make("unbroken")
    unbroken.train(9)
    with pytest.raises(SystemExit):
        make("broken", callbacks=[fail]).train(9)
    resumed = make("broken")
    assert resumed.resume()["name"] == "step_6"
    resumed.train(9)
    assert (resumed.stop_reason, resumed.state.step) == ("early_stopping", 6)
    assert_same_run(resumed, unbroken)
    for which in ("latest", "best"):
        found, expected = (getattr(each.checkpoint_manager, which)() for each in (resumed, unbroken))
        assert (found.name, found.metric) == (expected.name, expected.metric), which
    again = make("broken")
    again.resume()
    assert again.get_history() == unbroken.get_history(), "the end is on the disk"


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resuming_a_plain_loader_decodes_nothing_of_what_is_done(
    tiny_trainer: MakeTrainer, shapes_loader: Any, accumulation: int
) -> None:
    class Counted(ShapesDataset):
        asked_for = 0

        def __getitem__(self, index: int) -> Any:
            self.asked_for += 1
            return super().__getitem__(index)

    def make(folder: str) -> tuple[Trainer, Counted]:
        dataset = Counted(26, image_size=32)
        loader = shapes_loader(dataset=dataset)  # 7 batches of 4, the last one of 2
        return tiny_trainer(folder, train_loader=loader, gradient_accumulation_steps=accumulation), dataset

    stopped, dataset = make("run")
    stop_at(2, stopped)
    stopped.train(2)
    num_done = 2 * accumulation * 4
    assert dataset.asked_for == num_done, "whole steps, and nothing of the next one"
    resumed, dataset = make("run")
    resumed.resume()
    assert dataset.asked_for == 0
    resumed.train(2)
    assert dataset.asked_for == 2 * 26 - num_done


def test_stochastic_depth_resumes_to_the_same_bits_with_or_without_gradient_checkpointing(
    tiny_trainer: MakeTrainer, tiny_model: Any
) -> None:
    def trainer_in(folder: str, **settings: Any) -> Trainer:
        return tiny_trainer(folder, model=tiny_model(stochastic_depth=0.5), **settings)

    unbroken, plain = trainer_in("unbroken"), tiny_trainer("plain")
    unbroken.train(2)
    plain.train(2)
    assert unbroken.get_history() != plain.get_history(), "it does something"
    stopped = trainer_in("broken", gradient_checkpointing=True)
    assert stopped.model.gradient_checkpointing
    stop_at(2, stopped)
    stopped.train(2)
    torch.manual_seed(1234)
    resumed = trainer_in("broken")
    assert not resumed.model.gradient_checkpointing
    resumed.train(2, resume_from="step_2")
    assert_same_run(resumed, unbroken)
