"""`jsonl` and `csv`: a picture's name and a caption a row."""

import json

import pytest

from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import ConfigError, DatasetError

PICTURES = {"images/a.jpg": None, "images/b.jpg": None}
WANTED = {"images/a.jpg": ("a cat", "one cat"), "images/b.jpg": ("a dog",)}


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(folder, name: str, content: str | bytes, **options: str):
    return read_folder(folder({**PICTURES, name: content}), options=ReaderOptions(**options))


class TestJsonl:
    @pytest.mark.parametrize(("image", "caption"), [("file_name", "text"), ("image", "caption"), ("path", "captions")])
    def test_rows_of_one_picture_are_its_captions(self, folder, captions_of, image, caption):
        reading = read(
            folder,
            "captions.jsonl",
            lines(
                {image: "a.jpg", caption: ["a cat", " one\ncat"], "id": 1},
                {image: "b.jpg", caption: "a dog"},
                {caption: "a cat", image: "a.jpg"},
            ),
        )
        assert captions_of(reading) == WANTED
        assert (reading.caption_format, reading.told) == ("jsonl", "JSON lines, captions.jsonl")
        assert reading.skipped == "1 with a row given twice, which counts once (a.jpg)"

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_marks_line_ends_and_what_python_takes_for_one(self, folder, captions_of, encoding):
        content = '\r\n{"image": "a.jpg", "text": "a\u2028cat\x85"}\r\n\r\n  {"image": "b.jpg", "text": "b"}'
        reading = read(folder, "x.jsonl", content.encode(encoding))
        assert captions_of(reading) == {"images/a.jpg": ("a cat",), "images/b.jpg": ("b",)}

    def test_keys_can_be_named(self, folder, captions_of):
        content = lines({"file_name": "b.jpg", "was": "a.jpg", "text": "no", "said": "yes"})
        reading = read(folder, "x.jsonl", content, image_column="was", caption_column="said")
        assert captions_of(reading) == {"images/a.jpg": ("yes",)}

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            ('{"image": "a.jpg" "text": "x"}', r"x\.jsonl, line 2, is not valid JSON: Expecting ',' delimiter at col"),
            ('["a.jpg", "x"]', r"x\.jsonl, line 2, must be a JSON object .*found a list"),
            ('{"image": "a.jpg", "txt": "x"}', r"line 2, lacks the key 'text'; it has 'image', 'txt'"),
            ('{"image": "a.jpg", "text": 7}', r"No caption in .*x\.jsonl, line 2: .*found a number"),
            ('{"image": "a.jpg", "text": [["x"]]}', r"line 2: .*found a list with a list in it"),
            ('{"image": "a.jpg", "text": null}', r"line 2: .*found null"),
            ('{"image": null, "text": "x"}', r"No picture's name in .*line 2: .*found null"),
            ('{"image": " ", "text": "x"}', r"No picture's name in .*line 2: .*found nothing"),
            ('{"image": "a.jpg", "image": "b.jpg", "text": "x"}', r"line 2, has the key 'image' twice"),
            ('{"image": "a.jpg", "text": "\\ud800"}', r"Half a character .*line 2"),
            ("[" * 100_000, r"line 2, cannot be read as JSON"),
            ('{"image": "../secret.jpg", "text": "x"}', r"'\.\./secret\.jpg' .* leaves the data folder"),
            ('{"image": "/etc/passwd", "text": "x"}', r"'/etc/passwd' .* is absolute"),
        ],
    )
    def test_damaged(self, folder, second, message):
        with pytest.raises(DatasetError, match=message):
            read(folder, "x.jsonl", '{"image": "b.jpg", "text": "b"}\n' + second)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"x\.jsonl has no rows"),
            (
                lines({"id": 1, "text": "x"}),
                r"no column of the pictures' names: expected one of file_name.*found 'id', 't",
            ),
            (lines({"image": "a.jpg", "txt": "x"}), r"no column of the captions: .*'txt'.*--caption-column"),
            (
                lines({"image": "gone.jpg", "text": "x"}),
                r"None of the 1 pictures .*x\.jsonl names is there \(gone\.jpg\)",
            ),
            (lines({"image": "a.jpg", "text": ""}), r"None of the 1 pictures .* has a caption"),
            (b'{"image": "a.jpg", "text": "\xe9"}', r"not text in UTF-8: .* at byte 28"),
        ],
    )
    def test_nothing_to_read(self, folder, content, message):
        with pytest.raises(DatasetError, match=message):
            read(folder, "x.jsonl", content)

    def test_a_column_that_was_named_and_is_not_there(self, folder):
        content = lines({"image": "a.jpg", "said": "x"})
        with pytest.raises(DatasetError, match=r"expected 'sad', found 'image', 'said'\. Did you mean 'said'\?"):
            read(folder, "x.jsonl", content, caption_column="sad")

    @pytest.mark.parametrize("name", ["\x1b[31m", "\0", "\u202e"])
    def test_columns_of_control_characters_are_told_without_harm(self, folder, name):
        content = lines({name: "a.jpg", "text": "x"})
        with pytest.raises(DatasetError, match="Known names: ") as caught:
            read(folder, "x.jsonl", content, image_column="picture_file")
        assert str(caught.value).isprintable()

    def test_one_column_for_both(self, folder):
        with pytest.raises(DatasetError, match="has 'image' for both"):
            read(folder, "x.jsonl", lines({"image": "a.jpg"}), caption_column="image")


class TestCsv:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("x.csv", "image,caption\na.jpg,a cat\nb.jpg,a dog\na.jpg,one cat\n"),
            ("x.csv", '\ufeff"Caption","File Name"\r\n"a cat","a.jpg"\r\n"a dog",b.jpg\r\n"one\r\ncat",a.jpg\r\n'),
            ("x.csv", "id;filename;text\n1;a.jpg;a cat\n\n2;b.jpg;a dog\n3;a.jpg;one cat"),
            ("x.tsv", "filepath\ttitle\na.jpg\ta cat\nb.jpg\ta dog\na.jpg\tone cat\n"),
            ("x.csv", "image_name| comment_number| comment\na.jpg| 0| a cat\nb.jpg| 0| a dog\na.jpg| 1| one cat\n"),
            ("captions.txt", "image,caption\na.jpg,a cat\nb.jpg,a dog\na.jpg,one cat\n"),
            ("x.csv", "image,caption\ra.jpg,a cat\rb.jpg,a dog\ra.jpg,one cat\r"),
        ],
    )
    def test_the_tables_people_have(self, folder, captions_of, name, content):
        reading = read(folder, name, content)
        assert captions_of(reading) == WANTED
        assert (reading.caption_format, reading.told) == ("csv", f"table, {name}")

    def test_quotes_separators_and_line_breaks_in_a_field(self, folder, captions_of):
        reading = read(folder, "x.csv", 'image,caption\na.jpg,"one, ""two""\n\nthree"\nb.jpg,"a dog"\n')
        assert captions_of(reading) == {"images/a.jpg": ('one, "two" three',), "images/b.jpg": ("a dog",)}

    def test_utf_16_as_spreadsheets_write_it(self, folder, captions_of):
        reading = read(folder, "x.csv", "image\tcaption\r\na.jpg\tein grünes Dreieck\r\n".encode("utf-16"))
        assert captions_of(reading) == {"images/a.jpg": ("ein grünes Dreieck",)}

    def test_columns_can_be_named(self, folder, captions_of):
        content = "file,name,said\nb.jpg,a.jpg,yes\n"
        reading = read(folder, "x.csv", content, image_column="name", caption_column="said")
        assert captions_of(reading) == {"images/a.jpg": ("yes",)}

    def test_named_columns_leave_out_the_formats_that_have_none(self, folder):
        data = folder({"a.jpg": None, "a.txt": "from the text", "x.csv": "image,de\na.jpg,aus der Tabelle\n"})
        assert read_folder(data).caption_format == "text"
        assert read_folder(data, options=ReaderOptions(caption_column="de")).caption_format == "csv"
        with pytest.raises(ConfigError, match="caption_column='de' means something to the formats 'jsonl', 'csv'"):
            read_folder(data, "text", options=ReaderOptions(caption_column="de"))

    def test_missing_pictures_and_empty_captions_are_counted(self, folder):
        reading = read(folder, "x.csv", "image,caption\na.jpg,a cat\nb.jpg,\ngone.jpg,x\nlost.jpg,x\n")
        assert reading.skipped == "2 with no such picture (gone.jpg, lost.jpg) and 1 with an empty caption (b.jpg)"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"no column of the pictures' names: .*found none"),
            ("file,name,group\na.jpg,cat,1\n", r"x\.csv has no column of the captions: .*'file', 'name', 'group'"),
            ("image,caption\na.jpg,a cat, black\n", r"x\.csv, line 2, has 3 fields, and the head has 2\. Put .*quotes"),
            ("image,caption\nb.jpg,b\n\na.jpg\n", r"x\.csv, line 4, has 1 fields"),
            ('image,caption\nb.jpg,"two\nlines"\na.jpg,"never closed\nc.jpg,c\n', r"begins at line 4\. Look there"),
            ('image,caption\na.jpg,"a" cat\n', r"cannot be read as a table: .*line 2"),
            ('image,caption\na.jpg,"' + "x" * 140_000 + '"\n', r"cannot be read as a table: field larger .*line 2"),
            ("image,caption\n,a cat\n", r"No picture's name in .*x\.csv, line 2: .*found nothing"),
            ("image,caption\nhttp://x/a.jpg,a\n", r"None of the 1 pictures"),
            ("image,caption\nC:\\a.jpg,a\n", r"is absolute"),
            ("image,caption\n../a.jpg,a\n", r"leaves the data folder"),
            ("image,caption\na\0.jpg,a\n", r"cannot be a file name"),
            (b"image,caption\na.jpg,\xe9\n", r"not text in UTF-8: .* at byte 20"),
        ],
    )
    def test_damaged(self, folder, content, message):
        with pytest.raises(DatasetError, match=message):
            read(folder, "x.csv", content)
