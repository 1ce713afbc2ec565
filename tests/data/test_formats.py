import json
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from systems.pixel_llm.data.formats import find_format
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.data.readers.registry import READERS
from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import ConfigError, DatasetError


def write_pair(folder: Path) -> None:
    (folder / "cat.jpg").touch()
    (folder / "cat.txt").write_text("a cat")


def test_most_captions_win_and_text_goes_before_json_where_there_are_as_many(tmp_path: Path) -> None:
    write_pair(tmp_path)
    assert find_format(tmp_path) == ("text", None)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"cat.jpg": "a cat"}))
    assert find_format(tmp_path) == ("text", None)
    manifest.write_text(json.dumps({"cat.jpg": ["a cat", "one cat"]}))
    assert find_format(tmp_path) == ("json", manifest)
    manifest.write_text(json.dumps({"cat.jpg": "a cat", "gone.jpg": ["no", "such", "picture"]}))
    assert find_format(tmp_path) == ("text", None)


def test_the_other_readings_are_told(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"cat.jpg": ["a cat", "one cat"]}))
    reading = read_folder(tmp_path)
    assert reading.caption_format == "json"
    assert reading.others == ["text files beside the pictures (1 caption)"]
    (tmp_path / "manifest.json").write_text(json.dumps({"cat.jpg": 7}))
    reading = read_folder(tmp_path)
    assert reading.caption_format == "text"
    assert reading.others == ["JSON manifest, manifest.json (gives no captions)"]


def test_where_nothing_can_be_read_each_reason_is_told(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (tmp_path / "cat.txt").write_bytes(b"\xff")
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"none of 2 ways.*cat\.txt is not text in UTF-8.*must be a JSON object"):
        find_format(tmp_path)


def test_a_given_manifest_decides(tmp_path: Path) -> None:
    write_pair(tmp_path)
    manifest = tmp_path / "train.json"
    manifest.write_text("{}")
    assert find_format(tmp_path, manifest=manifest) == ("json", manifest)
    assert find_format(str(tmp_path), manifest="train.json") == ("json", manifest)
    for wrong in (tmp_path / "dev.json", tmp_path):
        with pytest.raises(DatasetError, match=r"does not exist or is not a file.*Found train\.json there"):
            find_format(tmp_path, manifest=wrong)


def test_another_json_file_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(
        DatasetError, match=r"No captions found .*looked for .*manifest\.json.*--manifest .*/train\.json"
    ):
        find_format(tmp_path)


def test_pictures_without_captions_are_counted_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "dog.jpg").touch()
    (tmp_path / "cat.txt").write_text("a cat")
    with pytest.raises(DatasetError, match=r"Found there: 1 picture, 1 \.txt file\. .*--manifest FILE"):
        find_format(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone does not exist"):
        find_format(tmp_path / "gone")


def test_the_options_offer_every_format_there_is() -> None:
    (kind,) = (each.type for each in fields(DataOptions) if each.name == "format")
    assert get_args(kind) == ("auto", *READERS)


@pytest.mark.parametrize(
    ("options", "manifest"),
    [
        (ReaderOptions(captions_per_file="lines"), "x.json"),
        (ReaderOptions(captions_per_file="lines", image_column="x"), None),
        (ReaderOptions(caption_column="x", captions_per_file="lines"), None),
    ],
)
def test_options_that_no_format_knows_together(tmp_path: Path, options: ReaderOptions, manifest: str | None) -> None:
    write_pair(tmp_path)
    with pytest.raises(ConfigError, match="captions_per_file='lines' means something to the formats 'text', 'kohya'"):
        read_folder(tmp_path, "auto", manifest, options=options)
