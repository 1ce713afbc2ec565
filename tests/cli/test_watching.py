"""`--watch` finds what has come to rest, once; time is what the test says it is."""

import os
from pathlib import Path

import pytest

from systems.pixel_llm.cli.watching import MAX_TRIES, FolderWatch


@pytest.fixture
def folder(in_tmp_path):
    Path("inbox").mkdir()
    return Path("inbox")


@pytest.fixture
def watch(folder):
    return FolderWatch([folder], seconds=2.0, wait=lambda seconds: None, should_stop=lambda: False)


def write(path, size, *, time=0):
    path.write_bytes(bytes(size))
    os.utime(path, ns=(time, time))


def test_a_picture_is_given_at_the_second_look_and_once(watch, folder):
    write(folder / "a.jpg", 3)
    assert watch.look() == []
    assert watch.look() == [folder / "a.jpg"]
    assert watch.look() == []


def test_a_file_that_grows_is_left_until_it_rests(watch, folder):
    for size in range(3):
        write(folder / "a.jpg", size)
        assert watch.look() == []
    assert watch.look() == [folder / "a.jpg"]


def test_a_file_of_full_size_that_is_being_filled_is_left_too(watch, folder):
    for time in range(3):
        write(folder / "a.jpg", 1000, time=time)
        assert watch.look() == []
    assert watch.look() == [folder / "a.jpg"]


def test_new_folders_below_are_looked_into_and_gone_files_forgotten(watch, folder):
    (folder / "day 1").mkdir()
    write(folder / "day 1/a.jpg", 3)
    write(folder / "b.jpg", 3)
    assert watch.look() == []
    (folder / "b.jpg").unlink()
    assert watch.look() == [folder / "day 1/a.jpg"]


def test_one_that_cannot_be_read_is_tried_a_few_times_and_then_when_it_changes(watch, folder):
    path = folder / "a.jpg"
    write(path, 3)
    watch.look()
    for tries in range(1, MAX_TRIES + 1):
        assert watch.look() == [path]
        assert watch.could_not_read(path) is (tries < MAX_TRIES)
    assert watch.look() == []
    write(path, 4)
    assert watch.look() == []
    assert watch.look() == [path]
    assert watch.could_not_read(path) is (MAX_TRIES > 1)


def test_a_folder_that_is_gone_for_a_while_is_told_once_and_watched_on(watch, folder, caplog):
    folder.rename("elsewhere")
    assert watch.look() == watch.look() == []
    assert len(caplog.records) == 1
    Path("elsewhere").rename(folder)
    write(folder / "a.jpg", 3)
    watch.look()
    assert watch.look() == [folder / "a.jpg"]


def test_it_waits_between_looks_and_ends_when_told(folder):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            write(folder / "b.jpg", 3)

    watch = FolderWatch([folder], seconds=5.0, wait=wait, should_stop=lambda: len(waits) >= 6)
    write(folder / "a.jpg", 3)
    assert list(watch) == [[folder / "a.jpg"], [folder / "b.jpg"]]
    assert waits == [5.0] * 6


def test_a_picture_in_two_folders_or_named_itself_is_not_given_twice(folder):
    write(folder / "a.jpg", 3)
    write(folder / "b.jpg", 3)
    watch = FolderWatch(
        [folder, folder.absolute(), Path()], seconds=1.0, wait=lambda seconds: None, should_stop=lambda: False,
        given=[Path("inbox/../inbox/b.jpg")],
    )  # fmt: skip
    watch.look()
    assert watch.look() == [folder / "a.jpg"]
    assert watch.look() == []
