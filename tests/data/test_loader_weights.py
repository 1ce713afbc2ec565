"""How often pictures come in an epoch where they have weights: through the loader, as training sees them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.loader import make_loader
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.batches import EpochBatches


@pytest.fixture
def dataset(tmp_path: Path) -> ImageCaptionDataset:
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"picture {number}")
    return ImageCaptionDataset(tmp_path, image_size=(4, 4))


def names(batches) -> list[str]:
    return [Path(path).stem for batch in batches for path in batch["image_paths"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_comes_in_an_epoch_as_often_as_its_weight_says(dataset, workers):
    loader = make_loader(dataset, batch_size=2, shuffle=True, num_workers=workers, weights=[2, 1, 0.5, 0.5, 1, 0])
    batches = EpochBatches(loader, seed=0)
    epochs = [names(batches.epoch(epoch)) for epoch in range(20)]
    for epoch in epochs:
        found = Counter(epoch)
        assert (found["0"], found["1"], found["4"], found["5"]) == (2, 1, 1, 0)
        assert found["2"] + found["3"] == 1
    assert {"2", "3"} <= set().union(*epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10, "an order of its own for each epoch"
    assert [len(list(batches.epoch(epoch))) for epoch in range(3)] == [batches.num_batches] * 3 == [3] * 3


def test_an_epoch_is_the_same_again_and_from_its_middle(dataset):
    weights = np.array([2, 1, 0.5, 0.5, 1, 0.25])
    loaders = [make_loader(dataset, batch_size=2, shuffle=True, num_workers=0, weights=weights) for _ in range(2)]
    first, second = (EpochBatches(loader, seed=1) for loader in loaders)
    whole = names(first.epoch(3))
    assert names(second.epoch(3)) == whole
    assert names(second.epoch(3, start=1)) == whole[2:]


def test_without_shuffling_they_come_in_order(dataset):
    loader = make_loader(dataset, batch_size=4, shuffle=False, num_workers=0, weights=[1, 3, 0, 0, 1, 0])
    assert names(EpochBatches(loader, seed=0).epoch(0)) == ["0", "1", "1", "1", "4"]


@pytest.mark.parametrize("weights", [[1.0], [1.0] * 5 + [-1.0], [0.0] * 6])
def test_weights_that_do_not_fit_are_refused(dataset, weights):
    with pytest.raises(ConfigError, match=r"weight|Weights"):
        make_loader(dataset, batch_size=1, shuffle=True, weights=weights)


def test_a_picture_that_comes_again_is_drawn_anew(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("\n".join(f"caption {number}" for number in range(50)))
    dataset = ImageCaptionDataset(tmp_path, image_size=(4, 4), captions_per_file="lines")
    (batch,) = make_loader(dataset, batch_size=6, shuffle=True, num_workers=0, weights=[6])
    assert len(set(batch["captions"])) > 3


def test_weights_beside_a_transform_of_ones_own_are_refused(tmp_path, dataset):
    transformed = ImageCaptionDataset(tmp_path, transform=lambda picture: picture)
    with pytest.raises(ConfigError, match="without a transform of its own"):
        make_loader(transformed, batch_size=1, shuffle=True, weights=[1.0] * 6)
