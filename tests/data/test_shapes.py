"""The data set of shapes: items as the trainer takes them, a function of (split, seed, epoch, index) alone."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from systems.pixel_llm.data.shapes import ShapesDataset, write_folder
from systems.pixel_llm.errors import ConfigError, DatasetError


def captions_of(dataset):
    return [item["caption"] for item in dataset]


def test_an_item_is_what_the_trainer_takes():
    dataset = ShapesDataset(20, image_size=48)
    item = dataset[12]
    assert set(item) == {"image", "caption", "image_path"}
    assert item["image"].shape == (3, 48, 48)
    assert item["image"].dtype == torch.float32
    assert item["caption"] == dataset.captions[12]
    assert item["image_path"] == "shapes/train/000012.png"
    assert dataset.preprocessing.image_size == (48, 48)


def test_the_image_is_the_picture_normalised():
    dataset = ShapesDataset(3, seed=4)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (dataset.preprocessing.mean, dataset.preprocessing.std)
    )
    picture = torch.from_numpy(np.array(dataset.picture(1))).permute(2, 0, 1) / 255
    torch.testing.assert_close(dataset[1]["image"] * std + mean, picture, atol=0.5 / 255 + 1e-6, rtol=0)


def test_the_first_captions_of_seed_0_are_these():
    # On every machine and Python: a change here changes every figure measured on the shapes.
    assert ShapesDataset(2).captions == [
        "A large brown square with black outline in the bottom left on a gray background",
        "A small orange diamond with white outline in the top right on a cyan background",
    ]
    assert ShapesDataset(1, split="combinations").captions == [
        "A small green square with black outline in the bottom right on a white background"
    ]


def test_captions_are_those_of_the_items_in_order():
    for split in ("train", "combinations", "two", "pairs"):
        dataset = ShapesDataset(30, split=split)
        assert dataset.captions == captions_of(dataset)


def test_each_epoch_draws_afresh_and_an_epoch_can_be_drawn_again():
    dataset = ShapesDataset(10)
    first = captions_of(dataset)
    dataset.set_epoch(1)
    assert captions_of(dataset) != first
    assert dataset.captions == first  # for the tokenizer: always of epoch 0
    again = ShapesDataset(10)
    again.set_epoch(1)
    for one, other in zip(dataset, again, strict=True):
        assert torch.equal(one["image"], other["image"])


def test_without_fresh_pictures_every_epoch_is_the_same():
    dataset = ShapesDataset(5, split="two", fresh_each_epoch=False)
    before = [item["image"] for item in dataset]
    dataset.set_epoch(7)
    assert all(torch.equal(item["image"], image) for item, image in zip(dataset, before, strict=True))


def test_seeds_and_splits_draw_different_scenes():
    drawn = [
        ShapesDataset(10, split=split, seed=seed).captions for split, seed in [("train", 0), ("train", 1), ("two", 0)]
    ]
    assert all(one != other for one, other in itertools.pairwise(drawn))


def test_running_workers_see_the_epoch():
    dataset = ShapesDataset(6)
    loader = DataLoader(dataset, batch_size=3, num_workers=1, persistent_workers=True, collate_fn=list)
    assert [item["caption"] for batch in loader for item in batch] == dataset.captions
    dataset.set_epoch(3)
    assert [item["caption"] for batch in loader for item in batch] == captions_of(dataset) != dataset.captions


def test_an_index_past_the_end_is_refused():
    with pytest.raises(IndexError, match="sample 5 of 5"):
        ShapesDataset(5)[5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "combination"}, "Did you mean 'combinations'"),
        ({"image_size": 16}, "image_size must be 32 or more"),
        ({"num_samples": 0}, "num_samples must be 1 or more"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        ShapesDataset(**({"num_samples": 5} | settings))


def test_a_written_folder_holds_the_pictures_of_epoch_0_and_a_manifest(tmp_path):
    folder = write_folder(tmp_path / "shapes", 4, split="pairs", seed=2, image_size=40)
    dataset = ShapesDataset(4, split="pairs", seed=2, image_size=40)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest.values()) == dataset.captions
    assert sorted(path.name for path in folder.iterdir()) == [*manifest, "manifest.json"]
    for index, name in enumerate(manifest):
        with Image.open(folder / name) as picture:
            assert np.array_equal(np.array(picture), np.array(dataset.picture(index)))


def test_a_written_folder_can_hold_a_text_beside_each_picture(tmp_path):
    folder = write_folder(tmp_path, 3, caption_format="text")
    assert [(folder / f"00000{index}.txt").read_text().strip() for index in range(3)] == ShapesDataset(3).captions
    assert len(list(folder.glob("*.png"))) == 3
    assert not (folder / "manifest.json").exists()


def test_a_folder_in_use_and_an_unknown_format_are_refused(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty"):
        write_folder(tmp_path, 2)
    with pytest.raises(ConfigError, match="Did you mean 'json'"):
        write_folder(tmp_path / "new", 2, caption_format="jsn")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]
