"""The steps of `augment`: what each does to pixels and captions, and that (seed, epoch, sample) alone decides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from systems.pixel_llm.data.augmentation import mirrored, random_color, random_crop
from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.options import DataOptions, augmentation_steps
from systems.pixel_llm.data.picture_loader import PictureLoader
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.seeding import derive_seed

HEIGHT, WIDTH = 40, 60


def ramps() -> np.ndarray:
    """Red rises downwards, green to the right, so that a crop can be read off; blue is constant."""
    pixels = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    pixels[0] = np.linspace(0, 255, HEIGHT)[:, None]
    pixels[1] = np.linspace(0, 255, WIDTH)[None, :]
    return pixels


# --- crop -------------------------------------------------------------------------------------------------------------


def test_a_crop_is_a_connected_part_of_most_of_the_picture_not_mirrored():
    areas = []
    for seed in range(200):
        cropped = random_crop(ramps(), seed=seed).astype(float)
        assert cropped.shape == (3, HEIGHT, WIDTH)
        rows, columns = cropped[0].mean(axis=1), cropped[1].mean(axis=0)
        assert (np.diff(rows) >= 0).all()
        assert (np.diff(columns) >= 0).all()
        areas.append((rows[-1] - rows[0]) / 255 * (columns[-1] - columns[0]) / 255)
    assert 0.6 < min(areas) < 0.75  # the ramps' ends are averaged away a little
    assert 0.9 < max(areas) <= 1.0


@pytest.mark.parametrize("change", [random_crop, random_color])
def test_the_seed_alone_decides(change: Any) -> None:
    pixels = ramps()
    assert np.array_equal(change(pixels, seed=3), change(pixels, seed=3))
    assert not np.array_equal(change(pixels, seed=3), change(pixels, seed=4))
    assert np.array_equal(pixels, ramps()), "what it is given may lie in the cache"


# --- color ------------------------------------------------------------------------------------------------------------


def test_greys_stay_grey_and_black_and_white_stay_as_they_are() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, None], 3, axis=0)
    middles = set()
    for seed in range(100):
        changed = random_color(greys, seed=seed)
        assert (changed[0] == changed[1]).all()
        assert (changed[0] == changed[2]).all()
        assert (changed[0, 0, 0], changed[0, 0, 255]) == (0, 255)
        assert (np.diff(changed[0, 0].astype(int)) >= 0).all(), "what was lighter is not darker now"
        middles.add(int(changed[0, 0, 128]))
    assert 108 < min(middles) < 122
    assert 134 < max(middles) < 148


def test_colours_keep_their_names() -> None:
    """The largest and the smallest of red, green and blue remain so, and pure ones stay far from grey."""
    levels = np.array([0, 60, 128, 200, 255], np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=0).reshape(3, 5, 25)
    pure = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8).T.reshape(3, 1, 3)
    for seed in range(100):
        changed = random_color(colors, seed=seed).astype(int)
        for first, second in ((0, 1), (1, 2), (0, 2)):
            is_above = colors[first].astype(int) > colors[second]
            assert (changed[first][is_above] >= changed[second][is_above]).all()
        changed = random_color(pure, seed=seed)[:, 0].astype(int)
        assert (np.diag(changed) > 210).all()
        assert (changed[~np.eye(3, dtype=bool)] < 40).all()
        assert np.abs(random_color(ramps(), seed=seed).astype(int) - ramps()).mean() < 20, "slightly"


# --- flip -------------------------------------------------------------------------------------------------------------

CAPTIONS = {
    "a_side.png": "a dog on the left\na dog looking left",
    "b_plain.png": "a cat\na small cat",
    "c_doubtful.png": "a plate on the left\na plate left on the table",
    "d_writing.png": "a bus\na bus that says hello",
}


@pytest.fixture
def sided_folder(tmp_path: Path) -> Path:
    """Pictures that are light on the left and dark on the right, with two captions each."""
    pixels = np.repeat(np.linspace(255, 0, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, axis=0).repeat(3, axis=2)
    for name, captions in CAPTIONS.items():
        Image.fromarray(pixels).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(captions + "\n")
    return tmp_path


def flipping(folder: Path, **settings: Any) -> ImageCaptionDataset:
    settings = {"augment": "flip", "caption_choice": "all", "image_size": (8, 12)} | settings
    return ImageCaptionDataset(folder, captions_per_file="lines", **settings)


def is_dark_on_the_left(image: Any) -> bool:
    return bool(image[0, 0, 0] < image[0, 0, -1])


def test_a_mirror_swaps_columns_and_nothing_else() -> None:
    assert np.array_equal(mirrored(ramps())[1], ramps()[1][:, ::-1])
    assert np.array_equal(mirrored(ramps())[0], ramps()[0])
    assert mirrored(ramps()).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("choice", ["all", "sample", "first"])
def test_every_other_picture_is_mirrored_with_its_captions_where_none_of_them_forbids(
    sided_folder: Path, choice: str
) -> None:
    dataset, plain = flipping(sided_folder, caption_choice=choice), flipping(sided_folder, augment="none")
    num_mirrored = [0, 0, 0, 0]
    for epoch in range(60):
        for index in range(4):
            is_mirrored = is_dark_on_the_left(dataset.pixels(index, epoch=epoch))
            num_mirrored[index] += is_mirrored
            captions = dataset.captions_of(index, epoch=epoch)
            wanted = plain.captions_of(index, epoch=epoch)
            if is_mirrored:
                wanted = [caption.replace("left", "right") for caption in wanted]
            assert set(captions) <= set(wanted)
            assert len(captions) == (2 if choice == "all" else 1)
    assert num_mirrored[2:] == [0, 0]
    assert all(15 < count < 45 for count in num_mirrored[:2])


@pytest.mark.parametrize("choice", ["all", "sample"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_threads_processes_and_a_resume_see_the_same_pictures_with_the_same_captions(
    sided_folder: Path, choice: str, num_workers: int
) -> None:
    settings = {"caption_choice": choice, "augment": "crop,color,flip"}
    plain = PictureLoader(flipping(sided_folder, **settings), batch_size=1, shuffle=True, num_workers=0)
    wanted = {epoch: list(plain.epoch(epoch)) for epoch in range(8)}
    loader = PictureLoader(flipping(sided_folder, **settings), batch_size=1, shuffle=True, num_workers=num_workers)
    for epoch, start in ((3, 2), (1, 0), (2, 1)):
        for batch, expected in zip(loader.epoch(epoch, start=start), wanted[epoch][start:], strict=True):
            assert torch.equal(batch["images"], expected["images"])
            assert batch["captions"] == expected["captions"]
    seen = {caption for batches in wanted.values() for batch in batches for caption in batch["captions"]}
    assert {"a dog on the left", "a dog on the right"} < seen


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_plain_loader_of_processes_sees_them_too(sided_folder: Path, num_workers: int) -> None:
    dataset = flipping(sided_folder)
    loader = DataLoader(dataset, batch_size=4, num_workers=num_workers, collate_fn=dataset.get_collate_fn())
    has_swapped = set()
    for epoch in range(5):
        dataset.set_epoch(epoch)
        (batch,) = loader
        first, second = batch["captions"][:2]
        assert (first, second) in {
            ("a dog on the left", "a dog looking left"),
            ("a dog on the right", "a dog looking right"),
        }
        assert is_dark_on_the_left(batch["images"][0]) == ("right" in first)
        has_swapped.add("right" in first)
    assert has_swapped == {True, False}


def test_a_picture_that_comes_twice_in_an_epoch_is_drawn_twice(sided_folder: Path) -> None:
    dataset = flipping(sided_folder)
    seen = set()
    for draw in range(12):
        is_mirrored = is_dark_on_the_left(dataset.pixels(0, epoch=0, draw=draw))
        assert ("right" in dataset.captions_of(0, epoch=0, draw=draw)[0]) == is_mirrored
        seen.add(is_mirrored)
    assert seen == {True, False}


# --- the steps together -----------------------------------------------------------------------------------------------


def test_the_crop_of_a_run_begun_before_there_were_other_steps_is_the_same(sided_folder: Path) -> None:
    crop, both = (flipping(sided_folder, augment=augment) for augment in ("crop", "color,crop"))
    whole = flipping(sided_folder, augment="none").pixels(1, epoch=5)
    expected = random_crop(whole, seed=derive_seed("augment", 0, 5, 1))
    assert np.array_equal(crop.pixels(1, epoch=5), expected)
    assert np.array_equal(both.pixels(1, epoch=5), random_color(expected, seed=derive_seed("color", 0, 5, 1)))


def test_a_dataset_draws_anew_each_epoch_and_the_same_again(tiny_picture_folder: Callable[..., Path]) -> None:
    folder = tiny_picture_folder(count=2)
    augmented = ImageCaptionDataset(folder, image_size=(32, 32), augment=True)
    first = augmented[0]["image"]
    augmented.set_epoch(1)
    assert not torch.equal(augmented[0]["image"], first)
    augmented.set_epoch(0)
    assert torch.equal(augmented[0]["image"], first)
    assert not torch.equal(ImageCaptionDataset(folder, image_size=(32, 32))[0]["image"], first)


def test_a_transform_of_ones_own_is_not_silently_left_alone(tiny_picture_folder: Callable[..., Path]) -> None:
    folder = tiny_picture_folder(count=1)
    for augment in (True, "flip"):
        with pytest.raises(ConfigError, match="augment"):
            ImageCaptionDataset(folder, transform=lambda picture: picture, augment=augment)
    ImageCaptionDataset(folder, transform=lambda picture: picture, augment="none")


def test_steps_are_named_in_any_order_and_done_in_one() -> None:
    assert augmentation_steps("none") == ()
    assert augmentation_steps("flip, crop") == ("crop", "flip")
    assert augmentation_steps(DataOptions().augment) == ("crop", "color"), "safe for captions in every language"


@pytest.mark.parametrize("augment", ["", "crop,none", "crop,,color", "Crop", "colour", "mirror"])
def test_an_unknown_step_is_told_with_those_there_are(augment: str) -> None:
    with pytest.raises(ConfigError, match=r"augment must be some of crop, color, flip .* or none, not"):
        DataOptions(augment=augment)
