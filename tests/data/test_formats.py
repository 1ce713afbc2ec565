import json
from pathlib import Path

import pytest

from systems.pixel_llm.data.formats import find_format
from systems.pixel_llm.errors import DatasetError


def write_pair(folder: Path) -> None:
    (folder / "cat.jpg").touch()
    (folder / "cat.txt").write_text("a cat")


def test_manifest_in_the_folder_goes_before_text_pairs(tmp_path: Path) -> None:
    write_pair(tmp_path)
    assert find_format(tmp_path) == ("text", None)
    (tmp_path / "manifest.json").write_text(json.dumps({"cat.jpg": "a cat"}))
    assert find_format(tmp_path) == ("json", tmp_path / "manifest.json")


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
    with pytest.raises(DatasetError, match=r"No captions found .*looked for manifest\.json.*--manifest .*/train\.json"):
        find_format(tmp_path)


def test_pictures_without_captions_are_counted_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "dog.jpg").touch()
    (tmp_path / "cat.txt").write_text("a cat")
    with pytest.raises(DatasetError, match=r"Found there: 1 picture, 1 \.txt file\. .*--manifest FILE"):
        find_format(tmp_path)


def test_a_folder_below_that_holds_captions_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    write_pair(tmp_path / "pictures")
    with pytest.raises(DatasetError, match=rf"give that one as the data folder \({tmp_path}/pictures\)"):
        find_format(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone does not exist"):
        find_format(tmp_path / "gone")
