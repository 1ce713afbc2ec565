"""A resume that finds other data or settings than the checkpoint's run had says so, and says nothing otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.utils.data import Dataset

from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.checkpoint_contents import write_training_state

MakeTrainer = Callable[..., Trainer]


def folder_of(path: Path, captions: dict[str, str]) -> Path:
    path.mkdir(exist_ok=True)
    for name, caption in captions.items():
        Image.new("RGB", (32, 32), "red").save(path / f"{name}.png")
        (path / f"{name}.txt").write_text(caption, encoding="utf-8")
    return path


def loader_of(path: Path, *, batch_size: int = 2, **settings: Any) -> Any:
    return make_loader(ImageCaptionDataset(path, image_size=(32, 32), **settings), batch_size=batch_size, shuffle=True)


def warnings_of_resume(trainer: Trainer, caplog: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level("WARNING"):
        trainer.resume()
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_an_unchanged_run_resumes_without_a_word(
    tiny_trainer: MakeTrainer, tmp_path: Path, shapes_loader: Any, caplog: Any
) -> None:
    def loaders() -> dict[str, Any]:
        loader = loader_of(folder_of(tmp_path / "data", {"a": "a cat", "b": "a dog"}), augment=True)
        return {"train_loader": loader, "val_loader": shapes_loader(2, shuffle=False)}

    tiny_trainer(**loaders(), precision="auto", learning_rates={"encoder": 1e-4}).train(1)
    again = tiny_trainer(
        **loaders(), precision="auto", learning_rates={"encoder": 1e-4},
        max_steps=7, progress="bar", max_checkpoints=2, gradient_checkpointing=True,
    )  # fmt: skip
    assert warnings_of_resume(again, caplog) == []


def test_changed_training_data_is_told_by_the_pictures_names(
    tiny_trainer: MakeTrainer, tmp_path: Path, caplog: Any
) -> None:
    data = folder_of(tmp_path / "data", {"a": "a cat", "b": "a dog", "c": "a cow"})
    tiny_trainer(train_loader=loader_of(data)).train(1)
    folder_of(data, {"b": "two dogs", "d": "a bird"})
    (data / "a.txt").unlink()
    warned = warnings_of_resume(tiny_trainer(train_loader=loader_of(data)), caplog)
    assert warned[0] == (
        "The training data changed since the checkpoint: 1 is new (d.png); 1 is gone (a.png); 1 has other captions "
        "(b.png). Pictures come in another order from here on, and in an epoch under way some come twice or not at "
        "all. If that is not meant, stop, and resume with the data as it was."
    )
    assert len(warned) == 1


def test_pictures_that_went_from_training_to_validation_are_told(
    tiny_trainer: MakeTrainer, tmp_path: Path, caplog: Any
) -> None:
    samples = ImageCaptionDataset(folder_of(tmp_path / "data", {"a": "a cat", "b": "a dog", "c": "a cow"})).samples

    def trainer(train: list[int], validation: list[int]) -> Trainer:
        sides = [loader_of(tmp_path / "data", samples=samples.select(rows)) for rows in (train, validation)]
        return tiny_trainer(train_loader=sides[0], val_loader=sides[1])

    trainer([0, 1], [2]).train(1)
    warned = warnings_of_resume(trainer([1], [0, 2]), caplog)
    assert warned[0].startswith("The training data changed since the checkpoint: 1 picture instead of 2; 1 is gone (a")
    assert warned[1].startswith("The validation data changed since the checkpoint: 2 pictures instead of 1; 1 is new")
    assert "cannot be compared with those before" in warned[1]
    assert warned[2] == (
        "1 of the pictures to validate on were trained on before the checkpoint (a.png): losses and scores look better "
        "for it than they are."
    )
    assert len(warned) == 3


@pytest.mark.parametrize(("before", "now", "told"), [(True, False, "and this one has none"), (False, True, "has some")])
def test_validation_data_that_came_or_went_is_told(
    tiny_trainer: MakeTrainer, shapes_loader: Any, caplog: Any, before: bool, now: bool, told: str
) -> None:
    def trainer(has_validation: bool) -> Trainer:
        return tiny_trainer(val_loader=shapes_loader(2) if has_validation else None)

    trainer(before).train(1)
    (warned,) = warnings_of_resume(trainer(now), caplog)
    assert told in warned


@pytest.mark.parametrize(
    ("setting", "before", "now", "consequence"),
    [
        ("gradient_accumulation_steps", 1, 3, ": an epoch has another number of steps from here on."),
        ("precision", "fp32", "bf16", ": results differ in their rounding from here on."),
        ("learning_rate", 1e-3, 5e-4, "."),
        ("schedule", "cosine", "linear", "."),
        ("label_smoothing", 0.0, 0.1, "."),
        ("max_grad_norm", 1.0, None, "."),
    ],
)
def test_a_changed_setting_is_one_line(
    tiny_trainer: MakeTrainer, caplog: Any, setting: str, before: Any, now: Any, consequence: str
) -> None:
    tiny_trainer(**{setting: before}).train(1)
    warned = warnings_of_resume(tiny_trainer(**{setting: now}), caplog)
    assert warned == [f"{setting}={now!r} differs from the checkpoint's {setting}={before!r}{consequence}"]


def test_what_the_loader_and_the_dataset_do_otherwise_is_told(
    tiny_trainer: MakeTrainer, tmp_path: Path, caplog: Any
) -> None:
    data = folder_of(tmp_path / "data", {"a": "a cat", "b": "a dog"})
    tiny_trainer(train_loader=loader_of(data)).train(1)
    changed = tiny_trainer(train_loader=loader_of(data, batch_size=1, augment="crop", caption_choice="all"))
    warned = warnings_of_resume(changed, caplog)
    assert [each.partition("=")[0] for each in warned] == ["batch_size", "augment", "caption_choice"]
    assert warned[0] == (
        "batch_size=1 differs from the checkpoint's batch_size=2: pictures come in other batches from here on, and in "
        "an epoch under way some twice or not at all."
    )
    weighted = make_loader(changed.train_loader.dataset, batch_size=1, shuffle=True, weights=[2.0, 1.0])
    tiny_trainer("weighted", train_loader=changed.train_loader).train(1)
    (warned_of_weights,) = warnings_of_resume(tiny_trainer("weighted", train_loader=weighted), caplog)
    assert warned_of_weights.startswith("How often each picture comes in an epoch differs from the checkpoint's run: ")


class Own(Dataset[Any]):
    """A user's dataset: items, and nothing that it tells of them."""

    def __init__(self, count: int) -> None:
        self._shapes = ShapesDataset(count, image_size=32)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> Any:
        return self._shapes[index]


def test_a_dataset_of_the_user_s_own_is_compared_by_its_length(
    tiny_trainer: MakeTrainer, shapes_loader: Any, caplog: Any
) -> None:
    tiny_trainer(train_loader=shapes_loader(dataset=Own(8))).train(1)
    assert warnings_of_resume(tiny_trainer(train_loader=shapes_loader(dataset=Own(8))), caplog) == []
    (warned,) = warnings_of_resume(tiny_trainer(train_loader=shapes_loader(dataset=Own(9))), caplog)
    assert "changed since the checkpoint: 9 pictures instead of 8." in warned


def write_without_fingerprint(*words: Any, training_state: dict[str, Any]) -> None:
    del training_state["fingerprint"]
    write_training_state(*words, training_state=training_state)


def test_a_checkpoint_from_before_fingerprints_resumes_without_a_word(
    tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("systems.pixel_llm.training.checkpoint_writing.write_training_state", write_without_fingerprint)
        old = tiny_trainer()
        old.train(1)
    latest = old.checkpoint_manager.latest()
    assert latest is not None
    state = json.loads((latest.path / "training_state.json").read_text(encoding="utf-8"))["training_state"]
    assert "fingerprint" not in state
    assert warnings_of_resume(tiny_trainer(learning_rate=0.5), caplog) == []
