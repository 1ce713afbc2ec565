import errno
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from systems.pixel_llm.data import pixel_cache
from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.pixel_cache import PixelCache
from systems.pixel_llm.data.samples import read_samples
from systems.pixel_llm.errors import ConfigError

SIZE = (6, 8)


def picture(value: int) -> np.ndarray:
    return np.full((3, *SIZE), value, np.uint8)


@pytest.fixture
def folder(tiny_picture_folder: Callable[..., Path]) -> Path:
    return tiny_picture_folder(count=4)


def on_disk(folder: Path, where: Path, **settings: Any) -> PixelCache:
    cache = PixelCache.on_disk(settings.pop("samples", read_samples(folder, "text")), SIZE, folder=where)
    assert cache is not None
    return cache


def test_what_is_put_in_is_given_back_and_no_more() -> None:
    cache = PixelCache.in_memory(3, SIZE)
    assert cache.get(1) is None
    cache.put(1, picture(7))
    assert np.array_equal(cache.get(1), picture(7))
    out = np.zeros((2, 3, *SIZE), np.uint8)
    assert not cache.take(np.array([1, 2]), out)
    cache.put(2, picture(9))
    assert cache.take(np.array([2, 1]), out)
    assert out[:, 0, 0, 0].tolist() == [9, 7]


def test_beyond_the_room_nothing_is_kept() -> None:
    cache = PixelCache.in_memory(3, SIZE, max_bytes=2 * picture(0).nbytes)
    cache.put(2, picture(5))
    assert (cache.capacity, cache.num_filled, cache.get(2)) == (2, 0, None)
    assert not cache.take(np.array([2]), np.zeros((1, 3, *SIZE), np.uint8))


def test_forked_workers_fill_the_same_memory() -> None:
    cache = PixelCache.in_memory(3, SIZE)
    worker = multiprocessing.get_context("fork").Process(target=cache.put, args=(2, picture(5)))
    worker.start()
    worker.join()
    assert np.array_equal(cache.get(2), picture(5))


def test_a_file_is_there_for_the_next_run_whatever_the_order(folder: Path, tmp_path: Path) -> None:
    cache = on_disk(folder, tmp_path / "cache")
    cache.put(1, picture(7))
    cache.flush()
    samples = read_samples(folder, "text")
    again = on_disk(folder, tmp_path / "cache", samples=samples.select([3, 1, 0, 2]))
    assert again.path == cache.path
    assert np.array_equal(again.get(1), picture(7))
    assert again.get(0) is None
    assert np.array_equal(again.part([2, 1]).get(1), picture(7))


def test_what_is_not_flushed_does_not_count(folder: Path, tmp_path: Path) -> None:
    cache = on_disk(folder, tmp_path / "cache")
    cache.put(1, picture(7))
    assert on_disk(folder, tmp_path / "cache").num_filled == 0
    cache.flush()
    assert on_disk(folder, tmp_path / "cache").num_filled == 1


@pytest.mark.parametrize("change", ["touched", "another size", "cut short", "not ours"])
def test_a_file_that_does_not_fit_is_begun_anew(folder: Path, tmp_path: Path, change: str) -> None:
    cache = on_disk(folder, tmp_path / "cache")
    cache.put(1, picture(7))
    cache.flush()
    assert cache.path is not None
    image = Path(read_samples(folder, "text")[1].image_path)
    if change == "touched":
        os.utime(image, ns=(1, 1))
    elif change == "another size":
        image.write_bytes(image.read_bytes() + b"\0")
    else:
        cache.path.write_bytes(cache.path.read_bytes()[:-1] if change == "cut short" else bytes(10_000))
    again = on_disk(folder, tmp_path / "cache")
    assert (again.path, again.num_filled) == (cache.path, 0)


def test_little_room_on_the_disk_makes_it_smaller_and_none_makes_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pixel_cache, "room_in", lambda _: 2 * picture(0).nbytes)
    assert on_disk(folder, tmp_path / "small").capacity == 2
    assert "holds 2 of 4 pictures" in caplog.text
    monkeypatch.setattr(pixel_cache, "room_in", lambda _: -5)
    assert PixelCache.on_disk(read_samples(folder, "text"), SIZE, folder=tmp_path / "none") is None
    assert "too little free space" in caplog.text


def test_a_folder_that_cannot_be_written_to_costs_the_cache_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixel_cache, "_reserve", full)
    monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "cache"))
    dataset = ImageCaptionDataset(folder, image_size=SIZE, cache=True)
    assert "No space left on device" in caplog.text
    assert list((tmp_path / "cache" / "pixels").iterdir()) == []
    dataset.pixels(0, epoch=0)
    assert dataset.cache is not None
    assert (dataset.cache.path, dataset.cache.num_filled) == (None, 1)


def test_a_data_set_takes_up_the_file_of_an_earlier_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "cache"))
    first = ImageCaptionDataset(folder, image_size=SIZE, cache=True)
    pixels = [first.pixels(index, epoch=0).copy() for index in range(4)]
    assert first.cache is not None
    first.cache.flush()
    second = ImageCaptionDataset(folder, image_size=SIZE, cache=True)
    assert second.cache is not None
    assert second.cache.num_filled == 4
    assert all(np.array_equal(second.pixels(index, epoch=0), pixels[index]) for index in range(4))


def test_folders_of_one_name_have_files_of_their_own_and_one_folder_has_one(
    tiny_picture_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = []
    for project in ("one", "other"):
        tiny_picture_folder(f"{project}/photos", count=2)
        monkeypatch.chdir(tmp_path / project)
        caches.append(on_disk(Path("photos"), tmp_path / "cache"))
    assert caches[0].path != caches[1].path
    assert on_disk(tmp_path / "other" / "photos", tmp_path / "cache").path == caches[1].path


def test_without_a_folder_for_caches_there_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise ConfigError("There is no folder for a cache: the user has no home.")

    monkeypatch.setattr(pixel_cache, "cache_folder", homeless)
    assert PixelCache.on_disk(read_samples(folder, "text"), SIZE) is None
    assert "the user has no home" in caplog.text


def test_space_is_taken_at_once(tmp_path: Path) -> None:
    path = tmp_path / "reserved"
    with path.open("wb") as file:
        pixel_cache._reserve(file, 100_000)
    assert path.stat().st_size == 100_000
    assert path.stat().st_blocks * 512 >= 100_000, "a file with holes could meet a full disk later"


def test_a_file_made_small_on_a_full_disk_is_made_anew_when_there_is_room(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache, "room_in", lambda _: 2 * picture(0).nbytes)
        assert on_disk(folder, tmp_path / "cache").capacity == 2
        assert on_disk(folder, tmp_path / "cache").capacity == 2
    assert on_disk(folder, tmp_path / "cache").capacity == 4


def test_a_file_that_was_long_not_used_is_removed(folder: Path, tmp_path: Path) -> None:
    old = on_disk(folder, tmp_path / "cache", samples=read_samples(folder, "text").select([0, 1])).path
    young = on_disk(folder, tmp_path / "cache", samples=read_samples(folder, "text").select([2])).path
    assert old is not None
    assert young is not None
    os.utime(old, (1, 1))
    on_disk(folder, tmp_path / "cache")
    assert (old.exists(), young.exists()) == (False, True)


def test_a_file_of_another_release_is_begun_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = on_disk(folder, tmp_path / "cache")
    cache.put(1, picture(7))
    cache.flush()
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert on_disk(folder, tmp_path / "cache").num_filled == 0
