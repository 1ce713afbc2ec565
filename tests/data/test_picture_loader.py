import os
import re
from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from systems.pixel_llm.data.collate import collate_captions
from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.picture_loader import PictureLoader
from systems.pixel_llm.data.reading_threads import is_finished
from systems.pixel_llm.errors import DatasetError, LoaderError
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training.batches import EpochBatches


@pytest.fixture
def dataset_of(tiny_picture_folder: Callable[..., Path]) -> Callable[..., ImageCaptionDataset]:
    """Seven pictures of which the fourth has several captions."""
    folder = tiny_picture_folder(count=7)
    text = sorted(folder.glob("*.txt"))[3]
    text.write_text(text.read_text() + "\na second caption\na third one\n")

    def make(**settings: Any) -> ImageCaptionDataset:
        return ImageCaptionDataset(folder, image_size=(24, 32), captions_per_file="lines", **settings)

    return make


def batches_of(loader: PictureLoader, epoch: int = 0, start: int = 0) -> list[Any]:
    return [
        {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        for batch in loader.epoch(epoch, start=start)
    ]


@pytest.mark.parametrize("choice", ["sample", "first", "all"])
def test_batches_are_those_of_the_items_but_for_the_normalising(dataset_of: Any, choice: str) -> None:
    dataset = dataset_of(caption_choice=choice, augment=True)
    model = create_pixel_llm("tiny", image_size=(24, 32), patch_size=8)
    model.preprocessing = dataset.preprocessing
    loader = PictureLoader(dataset, batch_size=4, shuffle=False, num_workers=2)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        for number, batch in enumerate(loader.epoch(epoch)):
            expected = collate_captions([dataset[index] for index in range(4 * number, min(7, 4 * number + 4))])
            assert batch["images"].dtype == torch.uint8
            torch.testing.assert_close(model.normalised(batch["images"]), expected["images"], rtol=0, atol=2e-6)
            assert {key: str(value) for key, value in batch.items() if key != "images"} == {
                key: str(value) for key, value in expected.items() if key != "images"
            }


@pytest.mark.parametrize("settings", [{"num_workers": 3}, {"num_workers": 2, "batches_ahead": 2}, {}])
def test_neither_threads_nor_reading_ahead_change_a_batch(dataset_of: Any, settings: dict[str, int]) -> None:
    plain = PictureLoader(dataset_of(augment=True), batch_size=2, shuffle=True, num_workers=0)
    other = PictureLoader(dataset_of(augment=True), batch_size=2, shuffle=True, **settings)
    for epoch in (0, 1, 0):
        assert batches_of(other, epoch) == batches_of(plain, epoch)


def test_an_epoch_is_taken_up_at_any_batch_and_nothing_before_it_is_decoded(
    dataset_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = PictureLoader(dataset_of(), batch_size=2, shuffle=True, num_workers=0)
    whole = batches_of(loader, epoch=3)
    assert len(whole) == len(loader) == 4
    opened: list[int] = []
    resumed = PictureLoader(dataset_of(), batch_size=2, shuffle=True, num_workers=0)
    pixels = ImageCaptionDataset.pixels

    def noted(dataset: ImageCaptionDataset, index: int, **place: int) -> Any:
        opened.append(index)
        return pixels(dataset, index, **place)

    monkeypatch.setattr(ImageCaptionDataset, "pixels", noted)
    assert batches_of(resumed, epoch=3, start=3) == whole[3:]
    assert len(opened) == 1, "the last batch has one picture"
    assert list(EpochBatches(resumed, seed=0).epoch(3, start=2))[1]["captions"] == whole[3]["captions"]


def test_each_iteration_is_the_next_epoch(dataset_of: Any) -> None:
    loader = PictureLoader(dataset_of(), batch_size=7, shuffle=True, num_workers=0)
    first, second = ([batch["image_paths"] for batch in loader] for _ in range(2))
    assert first != second
    loader.set_epoch(0)
    assert [batch["image_paths"] for batch in loader] == first


def test_a_bad_picture_leaves_its_batch_and_moves_no_other(dataset_of: Any) -> None:
    dataset = dataset_of(on_bad_sample="skip", caption_choice="all")
    whole = batches_of(PictureLoader(dataset, batch_size=3, shuffle=True, num_workers=2))
    bad = Path(whole[1]["image_paths"][1])
    bad.write_bytes(b"no picture")
    found = batches_of(
        PictureLoader(dataset_of(on_bad_sample="skip", caption_choice="all"), batch_size=3, shuffle=True)
    )
    assert [found[0], found[2]] == [whole[0], whole[2]]
    assert found[1]["image_paths"] == [path for path in whole[1]["image_paths"] if path != str(bad)]
    assert found[1]["images"] == [whole[1]["images"][0], whole[1]["images"][2]]
    assert [each.path for each in found[1]["bad_pictures"]] == [str(bad)]
    for path in whole[2]["image_paths"]:
        Path(path).write_bytes(b"none either")
    empty = batches_of(
        PictureLoader(dataset_of(on_bad_sample="skip", caption_choice="all"), batch_size=3, shuffle=True)
    )
    assert (empty[2]["captions"], empty[2]["images"], len(empty[2]["bad_pictures"])) == ([], [], 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_picture_that_is_not_to_be_skipped_ends_the_epoch_at_its_batch(dataset_of: Any, num_workers: int) -> None:
    dataset = dataset_of()
    Path(dataset.samples[4].image_path).write_bytes(b"no picture")
    batches = PictureLoader(dataset, batch_size=2, shuffle=False, num_workers=num_workers, batches_ahead=3).epoch(0)
    assert len(list(islice(batches, 2))) == 2
    with pytest.raises(DatasetError, match=r"on_bad_sample='skip' leaves such pictures out"):
        next(batches)


def test_a_second_epoch_decodes_nothing(dataset_of: Any) -> None:
    dataset = dataset_of()
    loader = PictureLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
    first = batches_of(loader, epoch=0)
    for name in dataset.samples.names:
        Path(name).unlink()
    assert batches_of(loader, epoch=0) == first
    assert len(batches_of(loader, epoch=1)) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_was_decoded_is_kept_for_later_runs_where_an_epoch_ends_early(
    dataset_of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_workers: int
) -> None:
    monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "cache"))
    batches = PictureLoader(dataset_of(cache=True), batch_size=3, shuffle=True, num_workers=num_workers).epoch(0)
    next(batches)
    batches.close()
    cache = dataset_of(cache=True).cache
    assert cache is not None
    assert cache.num_filled == 3


def test_threads_are_chosen_by_decoding(tiny_picture_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ImageCaptionDataset(tiny_picture_folder(count=130), image_size=(8, 8))
    monkeypatch.setattr("systems.pixel_llm.data.picture_loader.default_threads", lambda: 2)
    rates = {1: 100.0, 2: 105.0}
    monkeypatch.setattr(
        "systems.pixel_llm.data.picture_loader._pictures_per_second",
        lambda _, rows, count, seconds, **settings: rates[count],
    )
    loader = PictureLoader(dataset, batch_size=65, shuffle=False)
    assert len(list(loader)) == 2
    assert loader.num_workers == 1, "a second thread that gives 5 % is not worth it"
    rates[2] = 190.0
    loader.num_workers = None
    assert len(list(loader)) == 2
    assert loader.num_workers == 2


def test_the_number_of_threads_is_told_once_a_run(tiny_picture_folder: Any, caplog: pytest.LogCaptureFixture) -> None:
    dataset = ImageCaptionDataset(tiny_picture_folder(count=70), image_size=(8, 8))
    with caplog.at_level("INFO", logger="systems.pixel_llm.data.picture_loader"):
        for shuffle in (True, False):  # as for training and for validation
            next(iter(PictureLoader(dataset, batch_size=35, shuffle=shuffle)))
    assert len([line for line in caplog.messages if line.startswith("Pictures are decoded by ")]) <= 1


class StuckDataset(ImageCaptionDataset):
    """One picture is read from a pipe into which nobody writes, as from a disk that no longer answers."""

    stuck = 4

    def pixels(self, index: int, **place: int) -> Any:
        if index == self.stuck:
            Path(f"{self.dataset_dir}.pipe").read_bytes()
        return super().pixels(index, **place)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds after which threads are taken to hang, and after which they are left behind."""
    monkeypatch.setattr("systems.pixel_llm.data.reading_threads._CLOSING_SECONDS", 0.1)
    return 0.2


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_picture_at_which_threads_hang_is_named_and_nobody_waits_for_them(
    tiny_picture_folder: Any, patience: float, num_workers: int
) -> None:
    folder = tiny_picture_folder(count=7)
    os.mkfifo(f"{folder}.pipe")
    dataset = StuckDataset(folder, image_size=(24, 32))
    batches = PictureLoader(
        dataset, batch_size=3, shuffle=False, num_workers=num_workers, timeout_seconds=patience
    ).epoch(0)
    next(batches)
    told = f"For 0.2 seconds no picture was read; the threads hang at {re.escape(dataset.samples.names[4])}. A disk"
    with pytest.raises(LoaderError, match=told):
        next(batches)


def test_so_is_one_met_while_the_number_of_threads_is_measured(
    tiny_picture_folder: Any, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("systems.pixel_llm.data.picture_loader.default_threads", lambda: 2)
    folder = tiny_picture_folder(count=70)
    os.mkfifo(f"{folder}.pipe")
    dataset = StuckDataset(folder, image_size=(24, 32))
    loader = PictureLoader(dataset, batch_size=3, shuffle=True, timeout_seconds=patience)
    with pytest.raises(LoaderError, match=f"hang at .*{re.escape(Path(dataset.samples.names[4]).name)}"):
        next(loader.epoch(0))


def test_slow_pictures_are_no_hanging_ones() -> None:
    """Time begins anew with each picture that is read."""
    looks = iter(range(100))
    job: Future[None] = Future()

    def progress() -> int:
        number = next(looks)
        if number == 4:
            job.set_result(None)
        return number

    assert is_finished([job], progress=progress, timeout_seconds=0.001)
    assert not is_finished([Future()], progress=lambda: 0, timeout_seconds=0.001)
