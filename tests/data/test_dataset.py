import copy
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from systems.pixel_llm.data.collate import collate_captions
from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.pixel_cache import PixelCache
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.errors import ConfigError, DatasetError

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of 12 x 10 pixels, each with three captions in a manifest."""
    for shade, name in enumerate(NAMES):
        Image.new("RGB", (12, 10), (40 * shade, 0, 0)).save(tmp_path / name)
    captions = {name: [f"{name} said {way}" for way in ("one", "two", "three")] for name in NAMES}
    (tmp_path / "manifest.json").write_text(json.dumps(captions))
    return tmp_path


def noise(picture: Image.Image) -> Tensor:
    """A transform that draws from all three global generators: [3, 2, 2]."""
    values = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    return torch.tensor(values).view(3, 1, 1).expand(3, 2, 2).contiguous()


def draw_of_each_generator() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


class TestItems:
    def test_an_item_is_a_picture_a_caption_and_a_path(self, tmp_path: Path) -> None:
        Image.new("RGBA", (50, 40), (255, 0, 0, 255)).save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("a red square\n")
        dataset = ImageCaptionDataset(str(tmp_path), image_size=(32, 48))
        assert len(dataset) == 1
        item = dataset[0]
        assert (item["image"].shape, item["image"].dtype) == ((3, 32, 48), torch.float32)
        assert (item["caption"], item["image_path"]) == ("a red square", str(tmp_path / "a.png"))
        assert dataset.preprocessing is not None
        assert dataset.preprocessing.image_size == (32, 48)
        red = (1 - dataset.preprocessing.mean[0]) / dataset.preprocessing.std[0]
        torch.testing.assert_close(item["image"][0], torch.full((32, 48), red))

    def test_default_size_is_that_of_the_guide(self, folder: Path) -> None:
        assert ImageCaptionDataset(folder, "json")[0]["image"].shape == (3, 224, 224)

    def test_captions_are_all_captions_of_all_samples(self, folder: Path) -> None:
        dataset = ImageCaptionDataset(folder, "json", folder / "manifest.json")
        assert len(dataset) == 4
        assert dataset.captions == [f"{name} said {way}" for name in NAMES for way in ("one", "two", "three")]

    def test_indices_behave_as_those_of_a_list(self, folder: Path) -> None:
        dataset = ImageCaptionDataset(folder, "json", image_size=(8, 8))
        assert dataset[-1]["image_path"] == dataset[3]["image_path"]
        assert dataset[-1]["caption"] == dataset[3]["caption"]
        with pytest.raises(IndexError, match="4 samples"):
            dataset[4]
        assert [Path(item["image_path"]).name for item in dataset] == list(NAMES)

    def test_given_samples_take_the_place_of_the_folder(self, folder: Path) -> None:
        samples = [Sample(folder / "b.png", ("only this",))]
        dataset = ImageCaptionDataset(folder, samples=samples, image_size=(8, 8))
        assert (len(dataset), dataset.captions, dataset[0]["caption"]) == (1, ["only this"], "only this")
        with pytest.raises(DatasetError, match="given no samples"):
            ImageCaptionDataset(folder, samples=[])

    def test_a_damaged_picture_is_named(self, folder: Path) -> None:
        (folder / "c.png").write_bytes(b"no picture")
        dataset = ImageCaptionDataset(folder, "json", image_size=(8, 8))
        with pytest.raises(DatasetError, match=r"c\.png is not a picture"):
            dataset[2]

    @pytest.mark.parametrize("image_size", [224, (0, 8), (8, 8, 3), (8.5, 8)])
    def test_a_wrong_size_is_refused(self, folder: Path, image_size: object) -> None:
        with pytest.raises(ConfigError, match=r"image_size must be \(height, width\)"):
            ImageCaptionDataset(folder, "json", image_size=image_size)  # type: ignore[arg-type]


class TestDraws:
    def test_captions_follow_from_seed_epoch_and_index(self, folder: Path) -> None:
        def drawn(*, seed: int, epochs: int = 30) -> list[list[str]]:
            dataset = ImageCaptionDataset(folder, "json", image_size=(2, 2), seed=seed)
            rows = []
            for epoch in range(epochs):
                dataset.set_epoch(epoch)
                rows.append([dataset[index]["caption"] for index in range(4)])
            return rows

        first = drawn(seed=0)
        assert first == drawn(seed=0)
        assert first != drawn(seed=1)
        assert {row[0] for row in first} == {"a.png said one", "a.png said two", "a.png said three"}
        assert len({tuple(caption[-5:] for caption in row) for row in first}) > 3  # each picture draws by itself

    def test_reading_order_does_not_change_a_draw(self, folder: Path) -> None:
        dataset = ImageCaptionDataset(folder, "json", transform=noise)
        forwards = [dataset[index] for index in range(4)]
        backwards = [dataset[index] for index in (3, 2, 1, 0)][::-1]
        assert [item["caption"] for item in forwards] == [item["caption"] for item in backwards]
        assert all(torch.equal(one["image"], two["image"]) for one, two in zip(forwards, backwards, strict=True))

    def test_transform_draws_follow_from_seed_epoch_and_index_in_all_three_generators(self, folder: Path) -> None:
        dataset = ImageCaptionDataset(folder, "json", transform=noise)
        again = ImageCaptionDataset(folder, "json", transform=noise)
        other = ImageCaptionDataset(folder, "json", transform=noise, seed=1)
        first = dataset[0]["image"]
        assert torch.equal(first, again[0]["image"])
        assert (first != other[0]["image"]).all()
        assert (first != dataset[1]["image"]).all()
        dataset.set_epoch(1)
        assert (first != dataset[0]["image"]).all()

    def test_global_generators_are_left_as_they_were(self, folder: Path) -> None:
        def failing(picture: Image.Image) -> Tensor:
            noise(picture)
            raise RuntimeError("the transform's own error")

        def draws_after(transform: Callable[[Image.Image], Tensor] | None) -> list[float]:
            random.seed(7)
            np.random.seed(7)
            torch.manual_seed(7)
            if transform is failing:
                with pytest.raises(RuntimeError, match="the transform's own error"):
                    ImageCaptionDataset(folder, "json", transform=failing)[0]
            elif transform is not None:
                ImageCaptionDataset(folder, "json", transform=transform)[0]
            return draw_of_each_generator()

        assert draws_after(None) == draws_after(noise) == draws_after(failing)


class TestTransforms:
    def test_a_transform_takes_the_place_of_preprocessing(self, folder: Path) -> None:
        seen = []

        def transform(picture: Image.Image) -> Tensor:
            seen.append((picture.mode, picture.size))
            return torch.ones(3, 5, 6, dtype=torch.float64)

        dataset = ImageCaptionDataset(folder, "json", transform=transform)
        image = dataset[0]["image"]
        assert dataset.preprocessing is None
        assert (image.shape, image.dtype, seen) == ((3, 5, 6), torch.float32, [("RGB", (12, 10))])

    @pytest.mark.parametrize(
        ("result", "found"),
        [
            (torch.zeros(3, 4, 4, dtype=torch.uint8), r"a tensor \[3, 4, 4\] of torch.uint8"),
            (torch.zeros(1, 4, 4), r"a tensor \[1, 4, 4\]"),
            (torch.zeros(3, 4), r"a tensor \[3, 4\]"),
            ("words", "str"),
            (None, "NoneType"),
        ],
    )
    def test_what_is_no_float_picture_is_refused(self, folder: Path, result: object, found: str) -> None:
        dataset = ImageCaptionDataset(folder, "json", transform=lambda picture: result)  # type: ignore[arg-type,return-value]
        with pytest.raises(ConfigError, match=rf"float tensor \[3, H, W\]; for .*a\.png it gave {found}"):
            dataset[0]

    def test_a_transform_must_be_callable(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="transform must be callable with a picture, found int"):
            ImageCaptionDataset(folder, "json", transform=3)  # type: ignore[arg-type]


class TestWorkers:
    @pytest.mark.filterwarnings(
        "ignore:.*fork:DeprecationWarning"
    )  # Python 3.12 warns of forking beside torch's threads
    def test_persistent_workers_see_the_epoch_change(self, folder: Path) -> None:
        def epochs(num_workers: int) -> list[list[str]]:
            dataset = ImageCaptionDataset(folder, "json", image_size=(2, 2))
            loader = DataLoader(
                dataset, batch_size=2, num_workers=num_workers, persistent_workers=num_workers > 0,
                collate_fn=dataset.get_collate_fn(), multiprocessing_context="fork" if num_workers else None,
            )  # fmt: skip
            rows = []
            for epoch in range(4):
                dataset.set_epoch(epoch)
                rows.append([caption for batch in loader for caption in batch["captions"]])
            return rows

        alone = epochs(0)
        assert epochs(2) == alone
        assert len({tuple(row) for row in alone}) > 1

    @pytest.mark.slow  # a fresh Python process that imports torch
    def test_freshly_started_workers_see_the_epoch_change(self, folder: Path) -> None:
        dataset = ImageCaptionDataset(folder, "json", transform=noise)
        loader = DataLoader(
            dataset, batch_size=4, num_workers=1, persistent_workers=True, multiprocessing_context="spawn",
            collate_fn=dataset.get_collate_fn(),
        )  # fmt: skip
        for epoch in (0, 1, 5):
            dataset.set_epoch(epoch)
            (batch,) = loader
            expected = collate_captions([dataset[index] for index in range(4)])
            assert batch["captions"] == expected["captions"]
            assert torch.equal(batch["images"], expected["images"])

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
    def test_a_copy_has_an_epoch_of_its_own_in_shared_memory(
        self, folder: Path, duplicate: Callable[[ImageCaptionDataset], ImageCaptionDataset]
    ) -> None:
        dataset = ImageCaptionDataset(folder, "json", image_size=(2, 2))
        dataset.set_epoch(3)
        twin = duplicate(dataset)
        assert [twin[index]["caption"] for index in range(4)] == [dataset[index]["caption"] for index in range(4)]
        assert torch.equal(twin[0]["image"], dataset[0]["image"])
        before = [dataset[index]["caption"] for index in range(4)]
        for epoch in range(4, 9):
            twin.set_epoch(epoch)
        assert [dataset[index]["caption"] for index in range(4)] == before
        assert twin._epoch.is_shared()


class TestCollate:
    def test_a_batch_holds_pictures_captions_and_paths(self, folder: Path) -> None:
        dataset = ImageCaptionDataset(folder, "json", image_size=(6, 8))
        items = [dataset[0], dataset[2]]
        batch = dataset.get_collate_fn()(items)
        assert set(batch) == {"images", "captions", "image_paths"}
        assert (batch["images"].shape, batch["images"].dtype) == ((2, 3, 6, 8), torch.float32)
        assert torch.equal(batch["images"][1], items[1]["image"])
        assert batch["captions"] == [item["caption"] for item in items]
        assert batch["image_paths"] == [str(folder / "a.png"), str(folder / "c.png")]

    def test_it_can_be_sent_to_workers(self, folder: Path) -> None:
        function = ImageCaptionDataset(folder, "json").get_collate_fn()
        assert pickle.loads(pickle.dumps(function)) is function

    def test_pictures_of_different_sizes_are_named(self) -> None:
        items = [
            {"image": torch.zeros(3, 4, width), "caption": "", "image_path": f"{width}.png"} for width in (5, 5, 6)
        ]
        with pytest.raises(DatasetError, match=r"5\.png is 4 x 5 .*6\.png is 4 x 6 .*Resize"):
            collate_captions(items)  # type: ignore[arg-type]


def test_a_picture_is_decoded_once_and_later_items_are_the_same(tiny_picture_folder):
    folder = tiny_picture_folder(count=2)
    dataset = ImageCaptionDataset(folder, image_size=(16, 24))
    first = dataset[0]["image"].clone()
    dataset.samples[0].image_path.unlink()
    assert torch.equal(dataset[0]["image"], first)
    dataset[0]["image"].zero_()  # a caller's change must not reach what is kept
    assert torch.equal(dataset[0]["image"], first)


def test_kept_pictures_stay_within_their_bound_and_are_not_sent_to_workers(tiny_picture_folder):
    cache = PixelCache.in_memory(3, (16, 24), max_bytes=3 * 16 * 24)
    dataset = ImageCaptionDataset(tiny_picture_folder(count=3), image_size=(16, 24), cache=cache)
    images = [dataset[index]["image"] for index in range(3)]
    assert cache.num_filled == 1
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.cache.num_filled == 0
    assert all(torch.equal(copy[index]["image"], images[index]) for index in range(3))


def test_a_cache_beside_a_transform_of_ones_own_is_refused(tiny_picture_folder):
    with pytest.raises(ConfigError, match="leave cache out, or the transform"):
        ImageCaptionDataset(tiny_picture_folder(count=1), transform=lambda picture: picture, cache=True)
