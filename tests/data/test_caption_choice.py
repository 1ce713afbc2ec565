"""Which captions of a picture a batch holds: one drawn, the first, or all beside one picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from systems.pixel_llm.data import ImageCaptionDataset, Sample
from systems.pixel_llm.errors import ConfigError


@pytest.fixture
def samples(tiny_picture_folder: Callable[..., Path]) -> list[Sample]:
    """Three pictures with two, one and three captions."""
    paths = sorted(tiny_picture_folder(count=3, text=False).iterdir())
    return [
        Sample(path, tuple(f"{letter}{number}" for number in range(count)))
        for path, letter, count in zip(paths, "abc", (2, 1, 3), strict=True)
    ]


def make(samples: list[Sample], caption_choice: Any) -> ImageCaptionDataset:
    return ImageCaptionDataset(".", samples=samples, image_size=(8, 8), caption_choice=caption_choice)


def captions_over_epochs(dataset: ImageCaptionDataset) -> set[tuple[str, ...]]:
    drawn = set()
    for epoch in range(10):
        dataset.set_epoch(epoch)
        drawn.add(tuple(item["caption"] for item in dataset))  # type: ignore[index,misc]
    return drawn


def test_sample_draws_anew_and_first_stays(samples: list[Sample]) -> None:
    assert captions_over_epochs(make(samples, "first")) == {("a0", "b0", "c0")}
    drawn = captions_over_epochs(make(samples, "sample"))
    assert {captions[2] for captions in drawn} == {"c0", "c1", "c2"}
    assert captions_over_epochs(ImageCaptionDataset(".", samples=samples, image_size=(8, 8))) == drawn


def test_all_gives_each_picture_once_with_all_its_captions(samples: list[Sample]) -> None:
    dataset = make(samples, "all")
    item = dataset[2]
    assert set(item) == {"image", "captions", "image_path"}  # type: ignore[arg-type]
    assert item["captions"] == ["c0", "c1", "c2"]  # type: ignore[index,typeddict-item]
    batch = dataset.get_collate_fn()([dataset[index] for index in range(3)])
    assert batch["images"].shape == (3, 3, 8, 8)
    assert batch["captions"] == ["a0", "a1", "b0", "c0", "c1", "c2"]
    assert batch["image_paths"] == [str(sample.image_path) for sample in samples]
    assert torch.equal(batch["caption_image_index"], torch.tensor([0, 0, 1, 2, 2, 2]))
    assert batch["caption_image_index"].dtype == torch.int64


def test_rows_are_counted_without_the_pictures_left_out(samples: list[Sample], tmp_path: Path) -> None:
    broken = Sample(tmp_path / "absent.png", ("x", "y"))
    dataset = ImageCaptionDataset(
        ".", samples=[samples[0], broken, samples[2]], image_size=(8, 8), caption_choice="all", on_bad_sample="skip"
    )
    batch = dataset.get_collate_fn()([dataset[index] for index in range(3)])
    assert batch["captions"] == ["a0", "a1", "c0", "c1", "c2"]
    assert batch["caption_image_index"].tolist() == [0, 0, 1, 1, 1]


def test_items_of_both_kinds_make_one_batch(samples: list[Sample]) -> None:
    whole, first = make(samples, "all"), make(samples, "first")
    loader = DataLoader(ConcatDataset([first, whole]), batch_size=6, collate_fn=whole.get_collate_fn())
    (batch,) = loader
    assert batch["captions"] == ["a0", "b0", "c0", "a0", "a1", "b0", "c0", "c1", "c2"]
    assert batch["caption_image_index"].tolist() == [0, 1, 2, 3, 3, 4, 5, 5, 5]


def test_the_tokenizer_sees_all_captions_whatever_the_choice(samples: list[Sample]) -> None:
    for caption_choice in ("sample", "first", "all"):
        assert make(samples, caption_choice).captions == ["a0", "a1", "b0", "c0", "c1", "c2"]


def test_another_choice_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ConfigError, match=r"caption_choice must be one of 'sample', 'first', 'all', not 'any'"):
        make(samples, "any")
