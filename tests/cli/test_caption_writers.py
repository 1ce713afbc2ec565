"""What each form writes, the package reads; wherever a file was torn, what it lacks is written again, nothing twice."""

import csv
import json
import os
from pathlib import Path

import pytest

from systems.pixel_llm.cli import output_file
from systems.pixel_llm.cli.caption_manifest import Manifest
from systems.pixel_llm.cli.caption_rows import CsvRows, JsonRows, LineRows
from systems.pixel_llm.cli.caption_text_files import TextFiles
from systems.pixel_llm.cli.caption_writers import AppendedRows
from systems.pixel_llm.data.samples import read_samples
from systems.pixel_llm.errors import ConfigError, DatasetError
from systems.pixel_llm.inference import CaptionedPicture
from systems.pixel_llm.models.generation import GeneratedCaption

NO_TEXT = os.fsdecode(b"caf\xe9.jpg")
NAMES = [
    "a b.jpg",
    'quote".jpg',
    "comma,.jpg",
    "tab\t.jpg",
    "two\nlines.jpg",
    "grün 漢字 🎈.jpg",
    NO_TEXT,
    "\\udcff.jpg",
]
CAPTIONS = ["a red square", 'he said "yes", twice', "two\nlines", "grün", "", "a, b", "tab\there", "last"]
FORMS = {
    "lines": LineRows,
    "jsonl": lambda: JsonRows(is_list=False),
    "csv": lambda: CsvRows(num_captions=1),
    "jsonl, several captions": lambda: JsonRows(is_list=True),
    "csv, several captions": lambda: CsvRows(num_captions=2),
    "lines, several captions": LineRows,
}


def captioned(path, *texts):
    return CaptionedPicture(Path(path), [GeneratedCaption(text, -1.5 - index, 3) for index, text in enumerate(texts)])


def examples(form):
    several = "several" in form
    return [
        captioned(f"photos/{name}", *([text, "other"] if several else [text]))
        for name, text in zip(NAMES, CAPTIONS, strict=True)
    ]


def write(writer, *pictures):
    """All that a call of the command does."""
    writer.write(pictures)
    writer.settle()
    writer.close()


def kill(writer):
    """What the system does with the files of a process that is killed."""
    getattr(writer, "_journal", writer)._file.close()


def missing(writer, pictures):
    return [picture for picture in pictures if not writer.is_done(picture.path)]


@pytest.mark.parametrize("form", FORMS)
def test_wherever_a_file_was_torn_it_becomes_the_same(form, in_tmp_path):
    pictures, file = examples(form), Path("out")
    whole = AppendedRows(file, FORMS[form]())
    whole.write(pictures)
    whole.close()
    data = file.read_bytes()
    refused = []
    step = 1 if form == "csv, several captions" else 3  # where most can go wrong, everywhere
    for size in range(0, len(data) + 1, step):
        file.write_bytes(data[:size])
        try:
            writer = AppendedRows(file, FORMS[form]())
        except DatasetError:  # torn before anything tells that it is ours
            refused.append(size)
            assert file.read_bytes() == data[:size]
            continue
        again = missing(writer, pictures)
        for picture in again:
            writer.write([picture])
        assert missing(writer, pictures) == []
        writer.close()
        assert file.read_bytes() == data, f"torn after {size} bytes"
    # Of lines, the tab after the first name tells.
    # Of lines, the tab after the first name tells.
    tells = data.index(b"\t") if form.startswith("lines") else 0
    assert refused == [size for size in range(0, len(data) + 1, step) if 0 < size <= tells]


def test_jsonl_is_one_object_a_line(in_tmp_path):
    pictures = examples("jsonl")
    write(AppendedRows(Path("out.jsonl"), JsonRows(is_list=False)), *pictures)
    records = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [record["image"] for record in records] == [f"photos/{name}" for name in NAMES]
    assert [record["caption"] for record in records] == CAPTIONS
    assert {record["log_probability"] for record in records} == {-1.5}


def test_csv_is_a_table_as_rfc_4180_has_it(in_tmp_path):
    write(
        AppendedRows(Path("out.csv"), CsvRows(num_captions=2)),
        captioned("a.jpg", 'a "b"', "c"),
        captioned("b.jpg", "d", "e"),
    )
    data = Path("out.csv").read_bytes()
    assert data.startswith(b"image,caption,log_probability\r\n")
    assert data.count(b"\r\n") == data.count(b"\n") == 5
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["caption"], float(row["log_probability"])) for row in rows] == [
        ("a.jpg", 'a "b"', -1.5), ("a.jpg", "c", -2.5), ("b.jpg", "d", -1.5), ("b.jpg", "e", -2.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("captions.jsonl", lambda file: AppendedRows(file, JsonRows(is_list=False))),
        ("captions.csv", lambda file: AppendedRows(file, CsvRows(num_captions=1))),
        ("manifest.json", lambda file: Manifest(file, is_list=False)),
    ],
)
def test_the_packages_own_readers_take_it(tiny_picture_folder, monkeypatch, name, make):
    folder = tiny_picture_folder(text=False)
    monkeypatch.chdir(folder)
    writer = make(Path(name))
    names = sorted(path.name for path in Path().glob("picture*"))
    write(writer, *(captioned(name, f"caption of {name}") for name in names))
    samples = read_samples(folder, "auto", manifest_file=name)
    assert {Path(each.image_path).name: each.captions for each in samples} == {
        name: (f"caption of {name}",) for name in names
    }


def test_a_manifest_is_whole_at_any_time_and_a_killed_run_loses_nothing(in_tmp_path):
    file, partial = Path("photos/manifest.json"), Path("photos/manifest.json.partial")
    first = Manifest(file, is_list=False)
    first.write([captioned("photos/a.jpg", "a")])
    first.settle()
    assert json.loads(file.read_text()) == {"a.jpg": "a"}
    first.write([captioned("photos/day 1/b.jpg", "b")])
    assert json.loads(file.read_text()) == {"a.jpg": "a"}
    kill(first)
    partial.write_bytes(partial.read_bytes() + b'{"image": "to')
    second = Manifest(file, is_list=False)
    assert [second.is_done(Path("photos") / name) for name in ("a.jpg", "day 1/b.jpg", "c.jpg")] == [True, True, False]
    write(second, captioned("photos/c.jpg", "c"))
    assert json.loads(file.read_text()) == {"a.jpg": "a", "day 1/b.jpg": "b", "c.jpg": "c"}
    assert not partial.exists()


def test_a_killed_manifest_is_put_together_though_nothing_is_left_to_do(in_tmp_path):
    first = Manifest(Path("manifest.json"), is_list=True)
    first.write([captioned("a.jpg", "a", "b")])
    kill(first)
    second = Manifest(Path("manifest.json"), is_list=True)
    assert second.is_done(Path("a.jpg"))
    second.settle()
    second.close()
    assert json.loads(Path("manifest.json").read_text()) == {"a.jpg": ["a", "b"]}
    assert [path.name for path in Path().iterdir()] == ["manifest.json"]


def test_a_manifest_takes_only_what_train_would(in_tmp_path):
    Path("photos").mkdir()
    Path("away.jpg").write_bytes(b"")
    Path("photos/link.jpg").symlink_to("../away.jpg")
    writer = Manifest(Path("photos/manifest.json"), is_list=False)
    for name, reason in {
        "away.jpg": "lies outside",
        "photos/link.jpg": "link that leads out",
        f"photos/{NO_TEXT}": "no text",
        "photos/\\x.jpg": "absolute",
    }.items():
        assert reason in writer.objection(Path(name))
    for name in ("photos/a b.jpg", "photos/two\nlines.jpg", "photos/grün.jpg", "photos/day/../x.jpg"):
        assert writer.objection(Path(name)) is None
    writer.close()


def test_text_files_are_left_as_they_are(in_tmp_path):
    Path("a.txt").write_text("mine\n")
    Path("b.txt").write_text("")  # a disk that was full
    Path("c.caption").write_text("mine\n")
    writer = TextFiles()
    paths = [Path(f"{name}.jpg") for name in "abcd"]
    assert [writer.is_done(path) for path in paths] == [True, False, True, False]
    writer.write([captioned(path, "model's", "other") for path in paths])
    assert {path.name: path.read_text() for path in Path().iterdir()} == {
        "a.txt": "mine\n", "b.txt": "model's\nother\n", "c.caption": "mine\n", "d.txt": "model's\nother\n",
    }  # fmt: skip
    TextFiles(overwrite=True).write([captioned("a.jpg", "model's")])
    assert Path("a.txt").read_text() == "model's\n"


def test_pictures_of_one_stem_do_not_share_a_text_file():
    writer = TextFiles()
    assert writer.objection(Path("cat.jpg")) is None
    assert writer.objection(Path("./cat.jpg")) is None
    assert "the caption file of cat.jpg, cat.txt" in writer.objection(Path("cat.png"))
    assert "named as a caption file" in writer.objection(Path("dog.txt"))


@pytest.mark.parametrize("form", ["lines", "jsonl", "csv"])
@pytest.mark.parametrize(
    "content",
    [
        b"my notes\nof the holiday\n", b"no line end", b"\xff\xd8\xff\xe0 a picture\n", b'{"image": 1}\n', b"[1]\n",
        b"image;caption\r\na;b\r\n", b"\0\0\0\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_not_ours_is_refused_and_left(form, content, overwrite, in_tmp_path):
    Path("out").write_bytes(content)
    with pytest.raises(DatasetError, match="--output out holds something else"):
        AppendedRows(Path("out"), FORMS[form](), overwrite=overwrite)
    assert Path("out").read_bytes() == content


@pytest.mark.parametrize("written", ["lines", "jsonl", "csv"])
@pytest.mark.parametrize("asked", ["lines", "jsonl", "csv"])
def test_another_form_is_refused(written, asked, in_tmp_path):
    write(AppendedRows(Path("out"), FORMS[written]()), captioned("a.jpg", "a"), captioned("b.jpg", "b"))
    if written == asked:
        writer = AppendedRows(Path("out"), FORMS[asked]())
        assert writer.is_done(Path("a.jpg"))
        writer.close()
        return
    with pytest.raises(DatasetError, match="--output out holds something else"):
        AppendedRows(Path("out"), FORMS[asked]())
    with pytest.raises(DatasetError, match="--output out holds something else"):
        Manifest(Path("out"), is_list=False)


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', '{"images": [{"id": 1}]}', "{", "a,b"])
def test_a_manifest_that_is_none_is_refused_and_left(content, in_tmp_path):
    Path("m.json").write_text(content)
    with pytest.raises(DatasetError, match=r"--output m.json holds something else"):
        Manifest(Path("m.json"), is_list=False, overwrite=True)
    assert Path("m.json").read_text() == content


def test_overwrite_starts_over_with_the_first_batch(in_tmp_path):
    for make in (
        lambda **more: AppendedRows(Path("out"), LineRows(), **more),
        lambda **more: Manifest(Path("m.json"), is_list=False, **more),
    ):
        writer = make()
        write(writer, captioned("a.jpg", "old"), captioned("b.jpg", "old"))
        writer = make(overwrite=True)
        assert not writer.is_done(Path("a.jpg"))
        write(writer, captioned("a.jpg", "new"))
    assert Path("out").read_text() == "a.jpg\tnew\n"
    assert json.loads(Path("m.json").read_text()) == {"a.jpg": "new"}


def test_a_file_that_got_nothing_is_not_left_behind(in_tmp_path):
    AppendedRows(Path("out"), LineRows()).close()
    writer = Manifest(Path("m.json"), is_list=False)
    writer.settle()
    writer.close()
    assert list(Path().iterdir()) == []


def test_a_full_disk_leaves_whole_rows_and_says_what_to_do(in_tmp_path):
    writer = AppendedRows(Path("out"), LineRows())
    writer.write([captioned("a.jpg", "a")])

    class NearlyFull:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            if len(data) < 5:
                raise OSError(28, "No space left on device")
            return self.file.write(data[:5])

        def truncate(self, size):
            self.file.truncate(size)

        def close(self):
            self.file.close()

    writer._file = NearlyFull(writer._file)
    with pytest.raises(DatasetError, match=r"out cannot be written: No space left.*same command again"):
        writer.write([captioned("b.jpg", "b")])
    assert Path("out").read_text() == "a.jpg\ta\n"
    writer.close()


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(in_tmp_path, monkeypatch):
    def replace(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(DatasetError, match=r"cat\.txt cannot be written"):
        output_file.write_whole(Path("cat.txt"), "a cat", is_synced=True)
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(output_file.fcntl is None, reason="this system has no such locks")
def test_two_at_once_do_not_write_to_one_file(in_tmp_path):
    first = AppendedRows(Path("out"), LineRows())
    with pytest.raises(DatasetError, match="being written by another process"):
        AppendedRows(Path("out"), LineRows())
    write(first, captioned("a.jpg", "a"))
    second = AppendedRows(Path("out"), LineRows())
    assert second.is_done(Path("a.jpg"))
    second.close()


def test_a_folder_or_a_picture_is_no_output(in_tmp_path):
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name, told in {"folder": "is a folder", "a.jpg": "named as a picture", "pipe": "no regular file"}.items():
        with pytest.raises(ConfigError, match=told):
            AppendedRows(Path(name), LineRows())
