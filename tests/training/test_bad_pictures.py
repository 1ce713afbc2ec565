"""Training on data with pictures that cannot be read: what is told, what is counted, and that nothing else moves."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from systems.pixel_llm.data import ImageCaptionDataset, Sample
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import BadPictureEvent, Event, StepEvent
from systems.pixel_llm.training.metrics_log import read_metrics

MakeTrainer = Callable[..., Trainer]
MakeLoader = Callable[..., DataLoader[Any]]


@pytest.fixture
def samples(
    tmp_path: Path, tiny_picture_folder: Callable[..., Path], write_bad_pictures: Callable[[Path], list[Path]]
) -> list[Sample]:
    """Three bad pictures, seven good ones with two captions each, two bad ones: in order, batch 1 of 4 is empty."""
    bad = [Sample(path, ("never seen",)) for path in write_bad_pictures(tmp_path / "bad")]
    good = [
        Sample(path, (f"a {path.stem} on white", f"another view of {path.stem}"))
        for path in sorted(tiny_picture_folder(count=7, text=False).iterdir())
    ]
    return [*bad[:3], *good, *bad[3:5]]


@pytest.fixture
def loader_of(samples: list[Sample]) -> MakeLoader:
    """Call it as `loader_of(samples, batch_size=3, shuffle=False, workers=0, **ImageCaptionDataset's settings)`."""

    def make(
        chosen: list[Sample] | None = None,
        *,
        batch_size: int = 3,
        shuffle: bool = False,
        workers: int = 0,
        **settings: Any,
    ) -> DataLoader[Any]:
        settings = {"image_size": (32, 32), "on_bad_sample": "skip", "augment": True} | settings
        dataset = ImageCaptionDataset(".", samples=samples if chosen is None else chosen, **settings)
        return DataLoader(
            dataset, batch_size=batch_size, shuffle=shuffle, num_workers=workers, collate_fn=dataset.get_collate_fn(),
            persistent_workers=workers > 0, multiprocessing_context="fork" if workers else None,
        )  # fmt: skip

    return make


def paths(samples: list[Sample]) -> list[str]:
    return [str(sample.image_path) for sample in samples]


def stop_at(step: int, trainer: Trainer) -> None:
    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == step:
            trainer.request_stop()

    trainer._recorder.callbacks.append(callback)


def assert_same_run(left: Trainer, right: Trainer) -> None:
    assert left.get_history() == right.get_history()
    assert (left.state.step, left.state.samples_seen) == (right.state.step, right.state.samples_seen)
    for name, value in left.model.state_dict().items():
        assert torch.equal(value, right.model.state_dict()[name]), name


# --- what is told -----------------------------------------------------------------------------------------------------


def test_each_bad_picture_is_told_once_with_its_reason(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, samples: list[Sample], caplog: Any
) -> None:
    events: list[Event] = []
    trainer = tiny_trainer(train_loader=loader_of(), callbacks=[events.append])
    assert trainer.bad_pictures == {}
    with caplog.at_level("WARNING"):
        trainer.train(3)
    bad = paths(samples[:3] + samples[10:])
    assert list(trainer.bad_pictures) == bad
    told = [event for event in events if isinstance(event, BadPictureEvent)]
    assert [event.path for event in told] == bad
    assert all(event.path in event.reason for event in told)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"Left out: {event.reason}" for event in told]


def test_bad_pictures_of_validation_are_told_too(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, samples: list[Sample]
) -> None:
    trainer = tiny_trainer(train_loader=loader_of(samples[3:10]), val_loader=loader_of())
    history = trainer.train(1)
    assert list(trainer.bad_pictures) == paths(samples[:3] + samples[10:])
    good = tiny_trainer("good", train_loader=loader_of(samples[3:10]), val_loader=loader_of(samples[3:10]))
    # The caption drawn for a picture follows from its place, which is another one here; so validate on the first.
    first = [loader_of(chosen, caption_choice="first", augment=False) for chosen in (samples, samples[3:10])]
    losses = []
    for loader in first:
        judge = tiny_trainer("judge", model=good.model, train_loader=loader_of(samples[3:10]), val_loader=loader)
        losses.append(judge.validate())
    assert losses[0] == pytest.approx(losses[1])
    assert len(history["val_losses"]) == 1


def test_a_callback_may_end_the_run_and_what_is_learned_is_kept(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, samples: list[Sample], tmp_path: Path
) -> None:
    def refuse(event: Event) -> None:
        if isinstance(event, BadPictureEvent):
            raise DatasetError("one too many")

    trainer = tiny_trainer(train_loader=loader_of(samples[3:]), callbacks=[refuse])
    with pytest.raises(DatasetError, match="one too many"):
        trainer.train(1)
    assert [path.name for path in (tmp_path / "run").glob("step_*")] == ["step_2"]


def test_without_skipping_the_first_bad_picture_ends_the_run(tiny_trainer: MakeTrainer, loader_of: MakeLoader) -> None:
    with pytest.raises(DatasetError, match=r"bad_absent\.jpg does not exist"):
        tiny_trainer(train_loader=loader_of(on_bad_sample="raise")).train(1)


# --- what is counted --------------------------------------------------------------------------------------------------


def test_an_empty_batch_is_passed_over_and_counts_as_done(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, tiny_model: Any
) -> None:
    model = tiny_model()
    trainer = tiny_trainer(model=model, train_loader=loader_of(), weight_decay=0.5)
    before = {}
    steps: list[tuple[int, bool]] = []

    def has_moved(event: Event) -> None:
        if isinstance(event, StepEvent):
            now = model.encoder.state_dict()
            steps.append((event.step, bool(before) and any(not torch.equal(now[name], before[name]) for name in now)))
            before.update({name: value.clone() for name, value in now.items()})

    trainer._recorder.callbacks.append(has_moved)
    trainer.train(2)
    assert [step for step, _ in steps] == list(range(1, 9))
    assert [step for step, moved in steps if not moved] == [1, 5]  # the empty first batch of each epoch
    assert (trainer.state.step, trainer.state.samples_seen) == (8, 14)
    assert trainer.state.progress == 1.0


def test_data_without_any_readable_picture_is_an_error(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, samples: list[Sample]
) -> None:
    with pytest.raises(DatasetError, match="None of the pictures of epoch 1 could be read"):
        tiny_trainer(train_loader=loader_of(samples[:3])).train(2)


def test_validation_data_without_any_readable_picture_gives_no_loss(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, samples: list[Sample]
) -> None:
    trainer = tiny_trainer(train_loader=loader_of(samples[3:10]), val_loader=loader_of(samples[:3]))
    history = trainer.train(2)
    assert (len(history["train_losses"]), history["val_losses"]) == (2, [])
    assert trainer.checkpoint_manager.load_latest(model=trainer.model)["name"] == "epoch_2"


# --- nothing else moves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caption_choice", ["sample", "all"])
@pytest.mark.parametrize(("step", "shuffle"), [(1, False), (2, True), (4, True), (5, False), (7, True)])
def test_a_run_stopped_in_an_epoch_resumes_to_the_same_bits(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, step: int, shuffle: bool, caption_choice: str
) -> None:
    """Four batches an epoch; in order, steps 1 and 5 are those of an empty one."""

    def make(folder: str) -> Trainer:
        train_loader = loader_of(shuffle=shuffle, caption_choice=caption_choice)
        val_loader = loader_of(caption_choice=caption_choice, augment=False)
        return tiny_trainer(folder, train_loader=train_loader, val_loader=val_loader)

    unbroken = make("unbroken")
    unbroken.train(2)
    stopped = make("broken")
    stop_at(step, stopped)
    stopped.train(2)
    torch.manual_seed(1234)  # another process has drawn other numbers before
    resumed = make("broken")
    resumed.train(2, resume_from="epoch_1" if step == 4 else f"step_{step}")
    assert_same_run(resumed, unbroken)


@pytest.mark.slow  # worker processes
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("caption_choice", ["sample", "all"])
def test_two_workers_train_as_none(tiny_trainer: MakeTrainer, loader_of: MakeLoader, caption_choice: str) -> None:
    runs = []
    for workers in (0, 2):
        loader = loader_of(batch_size=2, shuffle=True, workers=workers, caption_choice=caption_choice)
        trainer = tiny_trainer(f"workers_{workers}", train_loader=loader)
        trainer.train(3)
        runs.append(trainer)
    assert runs[0].bad_pictures == runs[1].bad_pictures
    assert len(runs[0].bad_pictures) == 5
    assert_same_run(*runs)


# --- all captions of a picture ----------------------------------------------------------------------------------------


def test_a_step_on_all_captions_is_a_step_on_the_pairs(
    tiny_trainer: MakeTrainer, tiny_model: Any, loader_of: MakeLoader, samples: list[Sample]
) -> None:
    (batch, *_) = loader_of(samples[3:10], caption_choice="all", augment=False)
    pairs = {"images": batch["images"][batch["caption_image_index"]], "captions": batch["captions"]}
    gradients, losses = [], []
    for name, each in (("once", batch), ("pairs", pairs)):
        model = tiny_model(dropout=0.0).double()
        each["images"] = each["images"].double()
        trainer = tiny_trainer(name, model=model, train_loader=[each], max_grad_norm=None)
        losses.append(trainer.train_step(each))
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    torch.testing.assert_close(losses[0], losses[1])
    for key, gradient in gradients[0].items():
        # The Trainer takes the loss in fp32, the rest here is fp64.
        torch.testing.assert_close(gradient, gradients[1][key], rtol=1e-5, atol=1e-9, msg=key)


def test_validation_scores_all_captions_where_all_are_chosen(
    tiny_trainer: MakeTrainer, tiny_model: Any, loader_of: MakeLoader, samples: list[Sample]
) -> None:
    model, good = tiny_model(), samples[3:10]
    pairs = [Sample(sample.image_path, (caption,)) for sample in good for caption in sample.captions]
    losses = {}
    for name, chosen, choice in (("all", good, "all"), ("pairs", pairs, "sample"), ("one", good, "sample")):
        val_loader = loader_of(chosen, caption_choice=choice, augment=False)
        losses[name] = tiny_trainer(name, model=model, train_loader=loader_of(good), val_loader=val_loader).validate()
    assert losses["all"] == pytest.approx(losses["pairs"])
    assert losses["all"] != pytest.approx(losses["one"])


def test_speed_counts_pictures_and_captions(
    tiny_trainer: MakeTrainer, loader_of: MakeLoader, samples: list[Sample], tmp_path: Path
) -> None:
    trainer = tiny_trainer(train_loader=loader_of(caption_choice="all"), log_interval=1)
    trainer.train(1)
    records = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "train"]
    assert [record["step"] for record in records] == [2, 3, 4]  # the first batch is empty: it has no loss
    for record in records:
        assert record["captions_per_second"] == pytest.approx(2 * record["images_per_second"])
    assert trainer.state.samples_seen == 7
