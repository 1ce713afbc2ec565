"""Every format on a small example, whole and damaged: one table of what must happen.

A row is (format, damage, which files change and into what, what must happen): `refused(words, ...)`, all of which
the message holds, or `Reads({name: captions}, passed over)`. A new format gets an entry in `EXAMPLES` and three rows or
more at the end of `ROWS`.
"""

import importlib.util
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from systems.pixel_llm.data.readers.registry import READERS
from systems.pixel_llm.data.samples import read_folder
from systems.pixel_llm.errors import DatasetError

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None

PICTURES = {"a.jpg": None, "b.jpg": None}
READ = {"a.jpg": ("a cat",), "b.jpg": ("a grün dog",)}

JSONL = '{"file_name": "a.jpg", "text": "a cat"}\n{"file_name": "b.jpg", "text": "a grün dog"}\n'
CSV = "file_name,text\na.jpg,a cat\nb.jpg,a grün dog\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a cat"}, {"image_id": 2, "caption": "a grün dog"}],
}
TOKENS = "a.jpg#0\ta cat\nb.jpg#0\ta grün dog\n"


def parquet(**columns: list[Any]) -> bytes:
    """The bytes of a table; some that are none where pyarrow is not there, and the tests that use them are skipped."""
    if not HAS_PYARROW:
        return b"PAR1"
    import pyarrow
    from pyarrow import parquet as pyarrow_parquet

    content = io.BytesIO()
    pyarrow_parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


PARQUET = parquet(file_name=["a.jpg", "b.jpg"], text=["a cat", "a grün dog"])

Contents = Mapping[str, Any]

EXAMPLES: dict[str, Contents] = {
    "text": {**PICTURES, "a.txt": "a cat\n", "b.txt": "a grün dog\n"},
    "kohya": {"2_x/a.jpg": None, "2_x/b.jpg": None, "2_x/a.txt": "a cat\n", "2_x/b.txt": "a grün dog\n"},
    "json": {**PICTURES, "manifest.json": '{"a.jpg": "a cat", "b.jpg": "a grün dog"}'},
    "jsonl": {**PICTURES, "x.jsonl": JSONL},
    "csv": {**PICTURES, "x.csv": CSV},
    "imagefolder .jsonl": {**PICTURES, "metadata.jsonl": JSONL},
    "imagefolder .csv": {**PICTURES, "metadata.csv": CSV},
    "imagefolder .parquet": {**PICTURES, "metadata.parquet": PARQUET},
    "coco": {**PICTURES, "captions.json": json.dumps(COCO, ensure_ascii=False)},
    "flickr8k": {**PICTURES, "x.token.txt": TOKENS},
}
"""Format, and which of its files -> a folder of it, all of which read as `READ`."""


class Refused(NamedTuple):
    words: tuple[str, ...]


class Reads(NamedTuple):
    captions: dict[str, tuple[str, ...]]
    passed_over: str = ""


def refused(*words: str) -> Refused:
    return Refused(words)


def half(content: str | bytes) -> str | bytes:
    return content[: len(content) // 2]


def wrong_byte(content: str) -> bytes:
    """One byte of the second caption is none of UTF-8's."""
    return content.encode().replace(b"\xc3", b"\xff")


def latin_1(content: str) -> bytes:
    return content.encode("latin-1")


def utf_16(content: str) -> bytes:
    return content.encode("utf-16")


NO_TEXT = "is not text in UTF-8"
ONLY_A = {"a.jpg": ("a cat",)}
NOT_THERE = ("None of the 2 pictures", "is there (gone.jpg, lost.jpg)", "Correct the names")

MANIFEST, LINES, TABLE, META_LINES, META_TABLE, META_PARQUET, CAPTIONS, TOKEN_FILE = (
    *("manifest.json", "x.jsonl", "x.csv", "metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.json"),
    "x.token.txt",
)


def gone(content: str) -> str:
    """No name of it is there."""
    return content.replace("a.jpg", "gone.jpg").replace("b.jpg", "lost.jpg")


def coco(**changes: Any) -> str:
    return json.dumps({**COCO, **changes})


REMOVED = b"removed"
Damage = str | bytes | None | Callable[[Any], Any]

ROWS: list[tuple[str, str, dict[str, Damage], Refused | Reads]] = [
    # --- text
    ("text", "cut in half", {"b.txt": half}, Reads({"a.jpg": ("a cat",), "b.jpg": ("a grü",)})),
    ("text", "cut within a letter", {"b.txt": b"a gr\xc3"}, refused("b.txt", NO_TEXT, "at byte 4", "Save it as UTF-8")),
    ("text", "a wrong byte", {"b.txt": wrong_byte}, refused("b.txt", NO_TEXT, "at byte 4", "Save it as UTF-8")),
    ("text", "latin-1", {"b.txt": latin_1}, refused("b.txt", NO_TEXT, "at byte 4", "Save it as UTF-8")),
    ("text", "UTF-16", {"b.txt": utf_16}, Reads(READ)),
    ("text", "an empty file", {"b.txt": ""}, Reads(ONLY_A, "1 with an empty caption (b.jpg)")),
    ("text", "all files empty", {"a.txt": "", "b.txt": "\n"}, refused("All 2 caption files are empty")),
    ("text", "a second file", {"b.caption": "b"}, refused("b.jpg", "more than one caption file", "Keep one")),
    ("text", "a picture's bytes", {"b.txt": b"\xff\xd8\xff\xe0\0\x10JFIF"}, refused("b.txt", NO_TEXT, "at byte 0")),
    ("text", "a file too large", {"b.txt": "x" * (2 << 20)}, refused("b.txt", "too large", "2,097,152", "right file?")),
    # --- kohya
    ("kohya", "cut in half", {"2_x/b.txt": half}, Reads({"2_x/a.jpg": ("a cat",), "2_x/b.jpg": ("a grü",)})),
    ("kohya", "a wrong byte", {"2_x/b.txt": wrong_byte}, refused("b.txt", NO_TEXT, "at byte 4", "Save it as UTF-8")),
    ("kohya", "latin-1", {"2_x/b.txt": latin_1}, refused("b.txt", NO_TEXT, "at byte 4", "Save it as UTF-8")),
    (
        "kohya", "an empty file", {"2_x/b.txt": ""},
        Reads({"2_x/a.jpg": ("a cat",)}, "1 with an empty caption (2_x/b.jpg)"),
    ),
    ("kohya", "all files empty", {"2_x/a.txt": "", "2_x/b.txt": ""}, refused("No captioned pictures", "10_cat")),
    ("kohya", "a second file", {"2_x/b.caption": "b"}, refused("b.jpg", "more than one caption file", "Keep one")),
    # --- json
    ("json", "cut in half", {MANIFEST: half}, refused(MANIFEST, "not valid JSON", "line 1, column 20", "Correct it")),
    ("json", "a wrong byte", {MANIFEST: wrong_byte}, refused(MANIFEST, NO_TEXT, "at byte 33", "Save it as UTF-8")),
    ("json", "latin-1", {MANIFEST: latin_1}, refused(MANIFEST, NO_TEXT, "at byte 33", "Save it as UTF-8")),
    ("json", "UTF-16", {MANIFEST: utf_16}, Reads(READ)),
    ("json", "an empty file", {MANIFEST: ""}, refused(MANIFEST, "not valid JSON", "line 1, column 1")),
    ("json", "an empty object", {MANIFEST: "{}"}, refused(MANIFEST, "is empty", "map picture names to captions")),
    ("json", "a list", {MANIFEST: '["a.jpg"]'}, refused(MANIFEST, "must be a JSON object", "found a list")),
    ("json", "a wrong value", {MANIFEST: '{"a.jpg": {"en": "a"}}'}, refused(MANIFEST, "'a.jpg'", "found an object")),
    ("json", "names that are not there", {MANIFEST: gone}, refused(MANIFEST, *NOT_THERE)),
    ("json", "a name that is not there", {"b.jpg": REMOVED}, Reads(ONLY_A, "1 with no such picture (b.jpg)")),
    ("json", "a name that leaves", {MANIFEST: '{"../a.jpg": "a"}'}, refused("'../a.jpg'", "leaves the data folder")),
    # --- jsonl
    ("jsonl", "cut in half", {LINES: half}, refused(LINES, "line 2", "not valid JSON", "Correct it there")),
    ("jsonl", "a wrong byte", {LINES: wrong_byte}, refused(LINES, NO_TEXT, "at byte 76", "Save it as UTF-8")),
    ("jsonl", "latin-1", {LINES: latin_1}, refused(LINES, NO_TEXT, "at byte 76", "Save it as UTF-8")),
    ("jsonl", "UTF-16", {LINES: utf_16}, Reads(READ)),
    ("jsonl", "an empty file", {LINES: ""}, refused(LINES, "has no rows", "name pictures and their captions")),
    (
        "jsonl", "a missing key", {LINES: JSONL.replace('"file_name": "b.jpg", ', "")},
        refused(LINES, "line 2", "lacks the key 'file_name'", "it has 'text'", "Add it there"),
    ),
    (
        "jsonl", "no key of captions", {LINES: JSONL.replace("text", "said")},
        refused(LINES, "no column of the captions", "found 'file_name', 'said'", "--caption-column"),
    ),
    ("jsonl", "a wrong value", {LINES: JSONL.replace('"a cat"', "7")}, refused(LINES, "line 1", "found a number")),
    ("jsonl", "names that are not there", {LINES: gone}, refused(LINES, *NOT_THERE)),
    # --- csv
    ("csv", "cut in half", {TABLE: half}, Reads({"a.jpg": ("a",)})),
    ("csv", "cut within a row", {TABLE: CSV[:-12]}, refused(TABLE, "line 3", "1 fields", "the head has 2", "quotes")),
    ("csv", "a wrong byte", {TABLE: wrong_byte}, refused(TABLE, NO_TEXT, "at byte 37", "Save it as UTF-8")),
    ("csv", "latin-1", {TABLE: latin_1}, refused(TABLE, NO_TEXT, "at byte 37", "Save it as UTF-8")),
    ("csv", "UTF-16", {TABLE: utf_16}, Reads(READ)),
    ("csv", "an empty file", {TABLE: ""}, refused(TABLE, "no column of the pictures' names", "found none")),
    ("csv", "a head alone", {TABLE: "file_name,text\n"}, refused(TABLE, "has no rows")),
    (
        "csv", "a missing column", {TABLE: "file_name,id\na.jpg,1\n"},
        refused(TABLE, "no column of the captions", "found 'file_name', 'id'", "--caption-column"),
    ),
    ("csv", "a field too many", {TABLE: CSV + "a.jpg,one, two\n"}, refused(TABLE, "line 4", "3 fields", "quotes")),
    ("csv", "a quote not closed", {TABLE: CSV + 'a.jpg,"one\n'}, refused(TABLE, "line 4", "quote that is not closed")),
    ("csv", "names that are not there", {TABLE: gone}, refused(TABLE, *NOT_THERE)),
    # --- imagefolder
    ("imagefolder .jsonl", "cut in half", {META_LINES: half}, refused(META_LINES, "line 2", "not valid JSON")),
    ("imagefolder .jsonl", "a wrong byte", {META_LINES: wrong_byte}, refused(META_LINES, NO_TEXT, "at byte 76")),
    ("imagefolder .jsonl", "an empty file", {META_LINES: ""}, refused(META_LINES, "has no rows")),
    (
        "imagefolder .jsonl", "a missing key", {META_LINES: JSONL.replace('"text": "a grün dog"', '"label": 1')},
        refused(META_LINES, "line 2", "lacks the key 'text'", "it has 'file_name', 'label'", "Add it there"),
    ),
    ("imagefolder .jsonl", "names that are not there", {META_LINES: gone}, refused(META_LINES, *NOT_THERE)),
    ("imagefolder .csv", "cut within a row", {META_TABLE: CSV[:-12]}, refused(META_TABLE, "line 3", "the head has 2")),
    ("imagefolder .csv", "a wrong byte", {META_TABLE: wrong_byte}, refused(META_TABLE, NO_TEXT, "at byte 37")),
    ("imagefolder .csv", "an empty file", {META_TABLE: ""}, refused(META_TABLE, "no column of the pictures' names")),
    (
        "imagefolder .csv", "a missing column", {META_TABLE: "file_name,id\na.jpg,1\n"},
        refused(META_TABLE, "no column of the captions", "found 'file_name', 'id'", "--caption-column"),
    ),
    ("imagefolder .csv", "names that are not there", {META_TABLE: gone}, refused(META_TABLE, *NOT_THERE)),
    ("imagefolder .parquet", "cut in half", {META_PARQUET: half}, refused(META_PARQUET, "as Parquet", "Write it anew")),
    (
        "imagefolder .parquet", "a wrong byte in the footer", {META_PARQUET: PARQUET[:-8] + b"\xff" + PARQUET[-7:]},
        refused(META_PARQUET, "as Parquet", "Write it anew"),
    ),
    ("imagefolder .parquet", "an empty file", {META_PARQUET: b""}, refused(META_PARQUET, "as Parquet")),
    ("imagefolder .parquet", "text", {META_PARQUET: CSV}, refused(META_PARQUET, "as Parquet", "Write it anew")),
    (
        "imagefolder .parquet", "a missing column", {META_PARQUET: parquet(file_name=["a.jpg"], id=[1])},
        refused(META_PARQUET, "no column of the captions", "found 'file_name', 'id'", "--caption-column"),
    ),
    (
        "imagefolder .parquet", "a null", {META_PARQUET: parquet(file_name=["a.jpg", "b.jpg"], text=["a cat", None])},
        refused(META_PARQUET, "line 2", "found null"),
    ),
    (
        "imagefolder .parquet", "names that are not there",
        {META_PARQUET: parquet(file_name=["gone.jpg", "lost.jpg"], text=["a", "b"])}, refused(META_PARQUET, *NOT_THERE),
    ),
    # --- coco
    ("coco", "cut in half", {CAPTIONS: half}, refused(CAPTIONS, "not valid JSON", "line 1, column", "Correct it")),
    ("coco", "a wrong byte", {CAPTIONS: wrong_byte}, refused(CAPTIONS, NO_TEXT, "Save it as UTF-8")),
    ("coco", "UTF-16", {CAPTIONS: utf_16}, Reads(READ)),
    ("coco", "an empty file", {CAPTIONS: ""}, refused(CAPTIONS, "not valid JSON", "line 1, column 1")),
    ("coco", "a missing key", {CAPTIONS: '{"images": []}'}, refused(CAPTIONS, "must hold", "found the keys 'images'")),
    (
        "coco", "an image without a name", {CAPTIONS: coco(images=[{"id": 1}])},
        refused(CAPTIONS, "images number 0", "lacks 'file_name'", "it has 'id'"),
    ),
    (
        "coco", "captions of no image", {CAPTIONS: coco(images=COCO["images"][:1])},
        Reads(ONLY_A, "1 with an image_id that no image has (image_id 2)"),
    ),
    ("coco", "names that are not there", {CAPTIONS: gone}, refused(CAPTIONS, *NOT_THERE)),
    # --- flickr8k
    ("flickr8k", "cut in half", {TOKEN_FILE: half}, refused(TOKEN_FILE, "line 2", "must be a picture's name")),
    ("flickr8k", "a wrong byte", {TOKEN_FILE: wrong_byte}, refused(TOKEN_FILE, NO_TEXT, "at byte 26")),
    ("flickr8k", "latin-1", {TOKEN_FILE: latin_1}, refused(TOKEN_FILE, NO_TEXT, "at byte 26")),
    ("flickr8k", "UTF-16", {TOKEN_FILE: utf_16}, Reads(READ)),
    ("flickr8k", "an empty file", {TOKEN_FILE: ""}, refused(TOKEN_FILE, "is empty", "cat.jpg#0<TAB>a cat")),
    (
        "flickr8k", "a missing number", {TOKEN_FILE: TOKENS.replace("b.jpg#0", "b.jpg")},
        refused(TOKEN_FILE, "line 2", "must be a picture's name, #, a number", "found 'b.jpg\\ta grün dog'"),
    ),
    ("flickr8k", "a line twice", {TOKEN_FILE: TOKENS + TOKENS}, refused(TOKEN_FILE, "line 3", "a.jpg#0 again")),
    ("flickr8k", "names that are not there", {TOKEN_FILE: gone}, refused(TOKEN_FILE, *NOT_THERE)),
    (
        "flickr8k", "a list of other names", {"x.trainImages.txt": "gone.jpg\n"},
        refused("x.trainImages.txt", "None of the 1 pictures", "Correct the list"),
    ),
]  # fmt: skip


def needs(example: str) -> Any:
    """The marks of a test that reads this example."""
    needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="needs pyarrow, the extra `parquet`")
    return needs_pyarrow if "parquet" in example else ()


@pytest.mark.parametrize("example", [pytest.param(example, marks=needs(example)) for example in EXAMPLES])
def test_whole(folder, captions_of, example):
    contents = EXAMPLES[example]
    for caption_format in (example.split()[0], "auto"):
        reading = read_folder(folder(contents), caption_format)
        assert {name.removeprefix("2_x/"): said for name, said in captions_of(reading).items()} == READ
        assert (reading.caption_format, reading.skipped) == (example.split()[0], "")


@pytest.mark.parametrize(
    ("example", "damage", "outcome"),
    [
        pytest.param(example, damage, outcome, marks=needs(example), id=f"{example}: {what}")
        for example, what, damage, outcome in ROWS
    ],
)
def test_damaged(folder, captions_of, example, damage, outcome):
    contents = dict(EXAMPLES[example])
    for name, change in damage.items():
        if change is REMOVED:
            del contents[name]
        else:
            contents[name] = change(contents[name]) if callable(change) else change
    caption_format = example.split()[0]
    manifest = list(EXAMPLES[example])[-1] if READERS[caption_format].has_manifest else None
    data = folder(contents)
    if isinstance(outcome, Reads):
        reading = read_folder(data, caption_format, manifest)
        assert captions_of(reading) == outcome.captions
        assert reading.skipped == outcome.passed_over
        return
    with pytest.raises(DatasetError) as caught:
        read_folder(data, caption_format, manifest)
    message = str(caught.value)
    assert [words for words in outcome.words if words not in message] == []
    assert message.isprintable()


def test_every_format_has_its_rows():
    # Binary files are damaged in ways of their own, in test_webdataset.py and test_parquet_pictures.py.
    assert {example.split()[0] for example in EXAMPLES} == set(READERS) - {"webdataset", "parquet"}
    for example in EXAMPLES:
        assert sum(row[0] == example for row in ROWS) >= 3
