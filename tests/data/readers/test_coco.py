"""`coco`: images and annotations in one JSON file."""

import json
from typing import Any

import pytest

from systems.pixel_llm.data.samples import read_folder
from systems.pixel_llm.errors import DatasetError

PICTURES = {"val/a.jpg": None, "val/b.jpg": None}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "images": [{"id": 2, "file_name": "b.jpg", "height": 4}, {"id": 1, "file_name": "a.jpg"}],
        "annotations": [
            {"id": 7, "image_id": 1, "caption": " a cat \n"},
            {"id": 8, "image_id": 2, "caption": "a dog"},
            {"id": 9, "image_id": 1, "caption": "one cat"},
        ],
        **changes,
    }


@pytest.mark.parametrize("name", ["captions.json", "annotations/captions_val.json", "manifest.json"])
def test_pictures_in_the_folder_below(folder, captions_of, name):
    reading = read_folder(folder({**PICTURES, name: content()}))
    assert captions_of(reading) == {"val/a.jpg": ("a cat", "one cat"), "val/b.jpg": ("a dog",)}
    assert (reading.caption_format, reading.told) == ("coco", f"COCO captions, {name}")
    assert reading.skipped == ""


def test_a_file_that_is_named_is_told_from_a_manifest_by_what_it_holds(folder):
    data = folder({**PICTURES, "c.json": content(), "m.json": {"a.jpg": "a cat"}})
    assert read_folder(data, manifest_file="c.json").caption_format == "coco"
    assert read_folder(data, manifest_file="m.json").caption_format == "json"
    (data / "c.json").write_text(json.dumps(content()), encoding="utf-16")
    assert read_folder(data, manifest_file="c.json").caption_format == "coco"


def test_annotations_without_captions_are_not_even_parsed(folder):
    boxes = '{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}' + "x" * 100
    data = folder({**PICTURES, "annotations/instances.json": boxes, "annotations/captions.json": content()})
    assert read_folder(data).others == ()


def test_what_is_missing_is_counted(folder):
    changed = content(images=[{"id": i, "file_name": f"{c}.jpg"} for i, c in enumerate("xabc")])
    changed["annotations"].append({"image_id": 99, "caption": "of nothing"})
    data = folder({**PICTURES, "val/c.jpg": None, "captions.json": changed})
    assert read_folder(data).skipped == (
        "1 with no such picture (x.jpg) and 1 with an empty caption (c.jpg) and 1 with an image_id that no image has "
        "(image_id 99)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {"1": "a.jpg"}}, r"must hold an object with \"images\".*found 'images': an object"),
        ({"annotations": None}, r"found 'annotations': null"),
        ({"images": [7]}, r"images number 0, is a number; expected an object"),
        ({"images": [{"id": 1, "url": "http://x"}]}, r"lacks 'file_name'; it has 'id', 'url'\. Add it there: expected"),
        ({"images": [{"id": 1, "file_name": 7}]}, r"images number 0, has a file_name that is a number"),
        ({"images": [{"id": 1.5, "file_name": "a.jpg"}]}, r"images number 0, has the id a number; expected a whole"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]}, r"number 1, has the id 1 of"),
        ({"images": [{"id": 1, "file_name": "../../a.jpg"}]}, r"leaves the data folder"),
        ({"annotations": [{"image_id": 1, "bbox": []}]}, r"annotations number 0, lacks 'caption'; it has 'image_id'"),
        ({"annotations": [{"image_id": [1], "caption": "x"}]}, r"number 0, has the image_id a list; expected a whole"),
        ({"annotations": [{"image_id": 1, "caption": {}}]}, r"No caption in .*annotations number 0: .*found an object"),
        ({"images": [], "annotations": []}, r"names no images"),
        ({"annotations": []}, r"None of the 2 pictures .*captions\.json names has a caption"),
    ],
)  # fmt: skip
def test_damaged(folder, changes, message):
    with pytest.raises(DatasetError, match=message):
        read_folder(folder({**PICTURES, "captions.json": content(**changes)}), "coco", "captions.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(content(), indent=1)[:-40], r"captions\.json is not valid JSON: .* at line \d+, column"),
        ("[]", r"must hold an object with .*; found a list"),
        (json.dumps({"images": []}), r"found the keys 'images'"),
        ("[" * 100_000, r"cannot be read as JSON"),
        ('{"images": [], "images": []}', r"has the key 'images' twice"),
    ],
)
def test_damaged_files(folder, text, message):
    with pytest.raises(DatasetError, match=message):
        read_folder(folder({**PICTURES, "captions.json": text}), "coco", "captions.json")


def test_a_real_one(shared_data):
    reading = read_folder(shared_data / "coco_mini_val")
    assert (reading.caption_format, len(reading.samples), reading.pairs) == ("coco", 50, 250)
    assert reading.told == "COCO captions, annotations/captions_val2017.json"


def test_captions_whose_pictures_are_elsewhere(shared_data):
    with pytest.raises(DatasetError, match=r"None of the 5000 pictures .*give the folder that holds the pictures"):
        read_folder(shared_data / "coco_val2017_captions")
