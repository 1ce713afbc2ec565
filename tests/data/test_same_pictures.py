"""Which pictures belong on one side: by looks, by COCO image id, and files that a user gave for both."""

import shutil
from pathlib import Path

import pytest

from systems.pixel_llm.data.inspection_pictures import scan_pictures
from systems.pixel_llm.data.same_pictures import files_on_both_sides, groups_of_coco_ids, groups_of_like_pictures


def test_names_of_one_coco_id_are_one_picture():
    names = [
        "train2014/COCO_train2014_000000391895.jpg", "val2017/000000391895.jpg", "000000000009.jpg",
        "COCO_val2014_000000391895.png", "a/000000000009.jpeg", "000000000010.jpg",
    ]  # fmt: skip
    groups = groups_of_coco_ids(map(Path, names))
    assert [[str(path) for path in group] for group in groups] == [
        [names[0], names[1], names[3]],
        [names[2], names[4]],
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["a/0001.jpg", "b/0001.jpg"],  # too few digits: a number in a folder
        ["a/0000000000001.jpg", "b/0000000000001.jpg"],
        ["a/IMG_000000000001.jpg", "b/IMG_000000000001.jpg"],
        ["a/000000000001_x.jpg", "b/000000000001_x.jpg"],
        ["a/\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661.jpg"] * 2,
        ["000000000001.jpg", "000000000002.jpg"],
    ],
)
def test_other_names_are_not(names):
    assert groups_of_coco_ids(map(Path, names)) == []


def test_pictures_that_look_the_same_are_found_among_bad_ones(tiny_picture_folder, write_bad_pictures):
    folder = tiny_picture_folder(text=False)
    write_bad_pictures(folder)
    shutil.copy(folder / "picture_01.png", folder / "again.png")
    assert groups_of_like_pictures(scan_pictures(sorted(folder.iterdir()))) == [
        [folder / "again.png", folder / "picture_01.png"]
    ]


def test_a_file_on_both_sides_is_found_through_links(tiny_picture_folder, in_tmp_path):
    folder = tiny_picture_folder(text=False)
    (in_tmp_path / "linked").symlink_to(folder)
    (in_tmp_path / "other.png").symlink_to(folder / "picture_01.png")
    train = sorted(folder.iterdir())
    assert (
        files_on_both_sides(train, [in_tmp_path / "linked" / "picture_00.jpg", in_tmp_path / "other.png"]) == train[:2]
    )
    assert files_on_both_sides([Path(folder.name, "picture_03.jpg")], train) == [Path(folder.name, "picture_03.jpg")]
    assert files_on_both_sides(train, [folder / "absent.png", in_tmp_path / "picture_00.jpg"]) == []
