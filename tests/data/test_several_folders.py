"""Several folders as one data set: whose a shared picture is, and how often each comes."""

from dataclasses import replace
from pathlib import Path

import pytest

from systems.pixel_llm.data.samples import read_folder
from systems.pixel_llm.data.several_folders import sample_weights, without_shared_pictures
from systems.pixel_llm.errors import ConfigError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """outer/ with a.png, b.png; outer/inner/ with c.png, d.png; other/ with e.png. None of them is opened."""
    for name in ("outer/a", "outer/b", "outer/inner/c", "outer/inner/d", "other/e"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".png").touch()
        path.with_suffix(".txt").write_text(name)
    return tmp_path


def left_of(*paths: Path) -> list[list[str]]:
    readings = without_shared_pictures([read_folder(path) for path in paths])
    return [[Path(name).name for name in reading.samples.names] for reading in readings]


@pytest.mark.parametrize("is_inner_first", [False, True])
def test_a_picture_of_a_folder_inside_another_is_of_the_inner_one(folders, caplog, is_inner_first):
    outer, inner = folders / "outer", folders / "outer" / "inner"
    if is_inner_first:
        assert left_of(inner, outer) == [["c.png", "d.png"], ["a.png", "b.png"]]
    else:
        assert left_of(outer, inner) == [["a.png", "b.png"], ["c.png", "d.png"]]
    assert f"{inner} is inside {outer}: the 2 pictures that both have count as part of the inner folder." in caplog.text


def test_folders_beside_each_other_are_left_as_they_are(folders, caplog):
    (folders / "outer_too").mkdir()  # a name that begins like another's is not inside it
    (folders / "outer_too" / "f.png").touch()
    (folders / "outer_too" / "f.txt").write_text("f")
    readings = [read_folder(folders / name) for name in ("outer", "other", "outer_too")]
    assert all(map(lambda left, read: left is read, without_shared_pictures(readings), readings))
    assert "is inside" not in caplog.text


def test_of_three_folders_inside_each_other_each_picture_is_of_the_innermost(folders, caplog):
    assert left_of(folders, folders / "outer", folders / "outer" / "inner") == [
        ["e.png"], ["a.png", "b.png"], ["c.png", "d.png"],
    ]  # fmt: skip


def test_a_link_to_a_folder_is_that_folder(folders):
    (folders / "link").symlink_to(folders / "outer" / "inner")
    assert left_of(folders / "outer", folders / "link") == [["a.png", "b.png"], ["c.png", "d.png"]]


def test_a_picture_that_the_inner_folder_does_not_read_stays_with_the_outer_one(folders):
    (folders / "outer" / "inner" / "metadata.csv").write_text("file_name,text\nc.png,from the table\n")
    outer, inner = read_folder(folders / "outer", "text"), read_folder(folders / "outer" / "inner", "imagefolder")
    left = [[Path(name).name for name in each.samples.names] for each in without_shared_pictures([outer, inner])]
    assert left == [["a.png", "b.png", "d.png"], ["c.png"]]


def test_lists_and_repeats_follow_what_is_left(tmp_path):
    for name in ("1_x/a", "5_y/b"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True)
        path.with_suffix(".png").touch()
        path.with_suffix(".txt").write_text(name)
    reading, inner = read_folder(tmp_path / "data"), read_folder(tmp_path / "data" / "1_x")
    divided = replace(reading, split={"train": reading.samples[:1], "dev": reading.samples[1:]})
    left, _ = without_shared_pictures([divided, inner])
    assert [len(left.split[part]) for part in ("train", "dev")] == [0, 1]
    assert sample_weights(left.samples, left, weight=2, use_repeats=True).tolist() == [10]
    assert sample_weights(left.samples, left, weight=2, use_repeats=False).tolist() == [2]
    assert sample_weights([], left, weight=2, use_repeats=True).tolist() == []
    with pytest.raises(ConfigError, match=r"show pictures of .*data 1,500 times .*at most 200\."):
        sample_weights(left.samples, left, weight=300, use_repeats=True)
