"""One sample of a user's dataset is broken: it is named with its picture, and costs nothing of what is learned."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import DatasetError, PixelLLMError, TrainingError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import Event, StepEvent, ValidationEvent

MakeTrainer = Callable[..., Trainer]

POISONED = 5
"""Sample 5 is in the second batch of four."""


class PoisonedDataset(ShapesDataset):
    """Drawn shapes of which one is changed."""

    def __init__(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__(12, image_size=32)
        self.change = change

    def __getitem__(self, index: int) -> Any:
        item = super().__getitem__(index)
        return self.change(dict(item)) if index == POISONED else item


def with_a_pixel_that_is_no_number(item: dict[str, Any]) -> dict[str, Any]:
    image = item["image"].clone()
    image[1, 3, 4] = float("nan")
    return item | {"image": image}


@pytest.fixture
def poisoned_loader(shapes_loader: Any) -> Callable[..., Any]:
    """Call it with the change of the sample."""

    def make(change: Callable[[dict[str, Any]], dict[str, Any]], **settings: Any) -> Any:
        return shapes_loader(dataset=PoisonedDataset(change), shuffle=False, **settings)

    return make


def tensors_of(folder: Any) -> dict[str, torch.Tensor]:
    return {
        f"{path.name}/{name}": each for path in folder.glob("*.safetensors") for name, each in load_file(path).items()
    }


def test_a_pixel_that_is_no_number_costs_one_step_and_is_written_down(
    tiny_trainer: MakeTrainer, poisoned_loader: Any
) -> None:
    loader = poisoned_loader(with_a_pixel_that_is_no_number)
    trainer = tiny_trainer(train_loader=loader, ema_decay=0.9)
    history = trainer.train(2)
    folder = trainer.checkpoint_manager.checkpoint_dir
    records = [json.loads(line) for line in (folder / "bad_steps.jsonl").read_text().splitlines()]
    assert [(each["step"], each["epoch"], each["loss"]) for each in records] == [(1, 0, "nan"), (4, 1, "nan")]
    for record in records:
        loader.dataset.set_epoch(record["epoch"])
        items = [loader.dataset[index] for index in range(4, 8)]
        assert record["image_paths"] == [item["image_path"] for item in items]
        assert record["captions"] == [item["caption"] for item in items]
    assert all(map(math.isfinite, history["train_losses"]))
    for record in trainer.checkpoint_manager.list():
        tensors = tensors_of(record.path)
        assert any("exp_avg" in name for name in tensors), "optimizer, weights and average are all looked at"
        assert len({name.split("/")[0] for name in tensors}) == 3
        assert all(bool(each.isfinite().all()) for each in tensors.values() if each.is_floating_point())


def test_one_to_validate_on_is_named_and_its_loss_is_never_the_best(
    tiny_trainer: MakeTrainer, poisoned_loader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    poison = [True]
    best: list[bool] = []

    def change(item: dict[str, Any]) -> dict[str, Any]:
        return with_a_pixel_that_is_no_number(item) if poison[0] else item

    def note(event: Event) -> None:
        if isinstance(event, ValidationEvent):
            best.append(event.is_best)
            poison[0] = False  # somebody has mended the file

    loader = poisoned_loader(change)
    trainer = tiny_trainer(val_loader=loader, callbacks=[note])
    history = trainer.train(2)
    assert "The validation loss is nan: it never counts as the best. It comes from 1 of 3 batches." in caplog.text
    assert f"The first holds {loader.dataset[4]['image_path']}" in caplog.text
    assert [math.isnan(loss) for loss in history["val_losses"]] == [True, False]
    assert best == [False, True]
    found = trainer.checkpoint_manager.best()
    assert found is not None
    assert (found.name, found.metric) == ("epoch_2", history["val_losses"][1])
    resumed = tiny_trainer(val_loader=loader)
    resumed.train(2, resume_from="epoch_1")
    assert [math.isnan(loss) for loss in resumed.get_history()["val_losses"]] == [True, False]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda item: item | {"caption": 7}, r"A caption must be a string: that of .*000005.png is '7', int"),
        (lambda item: item | {"caption": None}, r"that of .*000005.png is 'None', NoneType"),
        (
            lambda item: item | {"image": item["image"][:1]},
            r"must have one size: .*000004.png is 32 x 32 \(height x width\), .*000005.png is \[1, 32, 32\]",
        ),
        (lambda item: item | {"image": item["image"][:, :16]}, r"000005.png is 16 x 32 \(height x width\)"),
        (lambda item: item | {"image": item["image"].numpy()}, r"000005.png must be a tensor .* found ndarray"),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_is_no_sample_ends_the_run_with_its_name_after_saving(
    tiny_trainer: MakeTrainer, poisoned_loader: Any, change: Any, told: str, num_workers: int
) -> None:
    settings = {"num_workers": num_workers, "multiprocessing_context": "fork" if num_workers else None}
    trainer = tiny_trainer(train_loader=poisoned_loader(change, **settings))
    with pytest.raises(DatasetError, match=told):
        trainer.train(1)
    latest = trainer.checkpoint_manager.latest()
    assert latest is not None
    assert latest.name == "step_1"


def test_a_batch_of_another_size_is_told_against_the_model_s(tiny_trainer: MakeTrainer, poisoned_loader: Any) -> None:
    loader = poisoned_loader(lambda item: item | {"image": item["image"][:, :16]}, batch_size=1)
    with pytest.raises(PixelLLMError, match=r"takes images \[B, 3, 32, 32\], not \[1, 3, 16, 32\]"):
        tiny_trainer(train_loader=loader).train(1)


# --- what else must not be saved --------------------------------------------------------------------------------------


def spoiled(trainer_of: Callable[..., Trainer], spoil: Callable[[Trainer], None]) -> Trainer:
    """A run into whose third step something breaks."""

    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 5:
            with torch.no_grad():
                spoil(trainer)

    trainer = trainer_of(callbacks=[callback], ema_decay=0.9)
    return trainer


def spoil_a_moment(trainer: Trainer) -> None:
    trainer.optimizer.state[next(iter(trainer.optimizer.state))]["exp_avg_sq"].view(-1)[0] = float("inf")


def spoil_the_average(trainer: Trainer) -> None:
    average = trainer._averaging.average
    assert average is not None
    next(iter(average.tensors.values())).view(-1)[0] = float("nan")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_a_moment, "The optimizer's state became infinite or NaN by step 6"),
        (spoil_the_average, "An averaged weight became infinite or NaN by step 6"),
    ],
)
def test_neither_a_moment_nor_an_average_that_is_no_number_is_saved(
    tiny_trainer: MakeTrainer, spoil: Callable[[Trainer], None], told: str
) -> None:
    trainer = spoiled(tiny_trainer, spoil)
    with pytest.raises(TrainingError, match=f"{told}.*The last good checkpoint is .*epoch_1"):
        trainer.train(3)
    assert [record.name for record in trainer.checkpoint_manager.list()] == ["epoch_1"]
