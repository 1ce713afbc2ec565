import numpy as np
import pytest
import torch

from systems.pixel_llm.data.augmentation import random_crop
from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.errors import ConfigError

HEIGHT, WIDTH = 40, 60


def ramps() -> np.ndarray:
    """Red tells the row, green the column."""
    pixels = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    pixels[0] = np.linspace(0, 255, HEIGHT)[:, None]
    pixels[1] = np.linspace(0, 255, WIDTH)[None, :]
    return pixels


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


def test_the_seed_alone_decides():
    assert np.array_equal(random_crop(ramps(), seed=3), random_crop(ramps(), seed=3))
    assert not np.array_equal(random_crop(ramps(), seed=3), random_crop(ramps(), seed=4))


def test_a_dataset_cuts_anew_each_epoch_and_the_same_again(tiny_picture_folder):
    folder = tiny_picture_folder(count=2)
    augmented = ImageCaptionDataset(folder, image_size=(32, 32), augment=True)
    first = augmented[0]["image"]
    augmented.set_epoch(1)
    assert not torch.equal(augmented[0]["image"], first)
    augmented.set_epoch(0)
    assert torch.equal(augmented[0]["image"], first)
    assert not torch.equal(ImageCaptionDataset(folder, image_size=(32, 32))[0]["image"], first)


def test_a_transform_of_ones_own_is_not_silently_left_alone(tiny_picture_folder):
    with pytest.raises(ConfigError, match="augment"):
        ImageCaptionDataset(tiny_picture_folder(count=1), transform=lambda picture: picture, augment=True)
