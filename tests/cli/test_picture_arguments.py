"""PICTURE...: files, folders, patterns and lists from stdin, each picture once, in an order that people expect."""

import io
import os
import sys
from pathlib import Path

import pytest

from systems.pixel_llm.cli.picture_arguments import find_pictures, pictures_below
from systems.pixel_llm.errors import DatasetError

BYTES_THAT_ARE_NO_TEXT = os.fsdecode(b"caf\xe9.jpg")


@pytest.fixture
def photos(in_tmp_path):
    """Holds no real pictures: nothing here opens one."""
    for name in (
        "photos/10.jpg", "photos/9.JPG", "photos/a b.png", "photos/notes.txt", "photos/.hidden.jpg",
        "photos/day 2/x.webp", "photos/day 10/x.webp", "photos/.trash/gone.jpg", "photos/day 2/scan.jfif",
    ):  # fmt: skip
        path = in_tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (in_tmp_path / "photos/day 2/up").symlink_to("..")
    return Path("photos")


@pytest.fixture
def stdin(monkeypatch):
    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def found(*words, **details):
    return [str(path) for path in find_pictures([Path(word) for word in words], **details).paths]


def test_a_folder_is_all_pictures_below_it_in_natural_order(photos):
    assert found("photos") == [
        "photos/9.JPG", "photos/10.jpg", "photos/a b.png", "photos/day 2/x.webp", "photos/day 10/x.webp",
    ]  # fmt: skip


def test_a_picture_named_twice_comes_once_where_it_was_named_first(photos):
    assert found("photos/10.jpg", "photos", "./photos/day 2/../10.jpg", "photos/day 2")[:2] == [
        "photos/10.jpg", "photos/9.JPG",
    ]  # fmt: skip
    assert len(found("photos/10.jpg", "photos", "./photos/day 2/../10.jpg", "photos/day 2")) == 5


def test_a_file_is_taken_as_it_is_there_or_not(photos):
    assert found("photos/notes.txt", "absent.jpg", "photos/.hidden.jpg") == [
        "photos/notes.txt", "absent.jpg", "photos/.hidden.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/*.jpg", ["photos/10.jpg"]),
        (
            "photos/*",
            ["photos/9.JPG", "photos/10.jpg", "photos/a b.png", "photos/day 2/x.webp", "photos/day 10/x.webp"],
        ),
        ("photos/**/*.webp", ["photos/day 2/x.webp", "photos/day 10/x.webp"]),
        ("photos/**/*.jfif", ["photos/day 2/scan.jfif"]),
        ("photos/day*", ["photos/day 2/x.webp", "photos/day 10/x.webp"]),
        ("p?otos/[0-9].JPG", ["photos/9.JPG"]),
        ("photos/.*/*.jpg", ["photos/.trash/gone.jpg"]),
    ],
)
def test_a_pattern_that_the_shell_left_alone(photos, pattern, names):
    assert found(pattern) == names
    assert found(Path.cwd() / pattern) == [str(Path.cwd() / name) for name in names]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos):
    Path("photos/[1].jpg").write_bytes(b"")
    Path("photos/1.jpg").write_bytes(b"")
    assert found("photos/[1].jpg") == ["photos/[1].jpg"]


@pytest.mark.parametrize("word", ["photos/*.tiff", "absent/**/*.jpg", "photos/a**"])
def test_a_pattern_without_a_picture_is_told(photos, word):
    if word == "photos/a**" and sys.version_info >= (3, 13):
        pytest.skip("there it means the same as *")
    with pytest.raises(DatasetError) as told:
        found(word)
    assert word in str(told.value)


def test_a_folder_without_pictures_is_told(in_tmp_path):
    Path("empty").mkdir()
    with pytest.raises(DatasetError, match=r"No picture in empty: looked there and in all folders below.*\.jpg"):
        found("empty")


def test_a_list_on_stdin(photos, stdin):
    stdin(b"photos/10.jpg\r\n\nphotos/a b.png\nphotos/day 2\nphotos/*.jpg")
    # A name is a name there: the star is no pattern.
    assert found("-") == ["photos/10.jpg", "photos/a b.png", "photos/day 2/x.webp", "photos/*.jpg"]


def test_a_list_on_stdin_holds_any_name(stdin, in_tmp_path):
    stdin(b"two\nlines.jpg\0caf\xe9.jpg\0\0")
    assert found("-", null_separated=True) == ["two\nlines.jpg", BYTES_THAT_ARE_NO_TEXT]


def test_an_empty_list_on_stdin_is_told(stdin, in_tmp_path):
    stdin(b"\n\n")
    with pytest.raises(DatasetError, match="no names of pictures on stdin"):
        found("-")


def test_a_folder_below_that_cannot_be_read_is_noted(photos, monkeypatch):
    from systems.pixel_llm.cli import picture_arguments

    real = picture_arguments.list_folder

    def list_folder(folder):
        if folder.name == "day 2":
            raise DatasetError("day 2 cannot be read")
        return real(folder)

    monkeypatch.setattr(picture_arguments, "list_folder", list_folder)
    named = find_pictures([photos])
    assert [str(path) for path in named.unreadable] == ["photos/day 2"]
    assert len(named.paths) == 4


def test_a_deep_folder_is_walked_without_recursion(in_tmp_path):
    place = in_tmp_path / "deep"
    deepest = place.joinpath(*["d"] * 300)
    deepest.mkdir(parents=True)
    (deepest / "x.png").write_bytes(b"")
    assert pictures_below(place) == [deepest / "x.png"]
