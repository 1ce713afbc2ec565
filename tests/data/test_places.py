"""Where the pictures that a manifest names are found: near names, and what is refused."""

import os
from pathlib import Path

import pytest

from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.errors import DatasetError


def find(root: Path, *names: str) -> dict[str, str]:
    found = PicturePlaces(roots=[root], named_in=root / "m.json").find(names)
    return {name: os.path.relpath(path, root) for name, path in found.items()}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_the_letters_of_an_extension_may_differ_in_case_those_of_a_name_may_not(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "B.png", "sub/c.Jpeg")
    assert find(tmp_path, "a.jpg", "b.png", "sub/c.JPEG") == {"a.jpg": "a.JPG", "sub/c.JPEG": "sub/c.Jpeg"}


def test_accents_may_be_stored_apart(tmp_path: Path) -> None:
    touch(tmp_path, "cafe\u0301.jpg", "d\u00e9j\u00e0.png")
    assert find(tmp_path, "caf\u00e9.jpg", "de\u0301ja\u0300.png") == {
        "caf\u00e9.jpg": "cafe\u0301.jpg",
        "de\u0301ja\u0300.png": "d\u00e9j\u00e0.png",
    }


def test_the_very_name_goes_before_one_alike_and_two_alike_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "a.jpg")
    assert find(tmp_path, "a.jpg", "a.JPG") == {"a.jpg": "a.jpg", "a.JPG": "a.JPG"}
    with pytest.raises(DatasetError, match=r"a\.Jpg could mean a\.JPG or a\.jpg .*Write the very name"):
        find(tmp_path, "a.Jpg")


def test_ways_round_through_folders_and_odd_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    assert find(tmp_path, "./a.jpg", "sub/../a.jpg", "sub//b.jpg", "", "sub", "sub/", "a.jpg/b.jpg", "~/a.jpg") == {
        "./a.jpg": "a.jpg",
        "sub/../a.jpg": "a.jpg",
        "sub//b.jpg": "sub/b.jpg",
    }


@pytest.mark.parametrize("name", ["..", "../a.jpg", "sub/../../a.jpg", "../../../../../../../../../../etc/passwd"])
def test_names_that_leave_are_refused_whether_or_not_something_is_there(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "data/b.jpg", "a.jpg")
    with pytest.raises(DatasetError, match="leaves the data folder"):
        find(tmp_path / "data", name)


def test_pipes_and_links_that_lead_to_nothing_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "to_pipe.jpg").symlink_to("pipe.jpg")
    assert find(tmp_path, "pipe.jpg", "gone.jpg", "to_pipe.jpg") == {}
