"""`text` and `kohya`: caption files beside the pictures."""

import tracemalloc
from pathlib import Path

import pytest

from systems.pixel_llm.data.readers.captions import read_text
from systems.pixel_llm.data.samples import MAX_CAPTION_CHARACTERS, ReaderOptions, read_folder
from systems.pixel_llm.errors import ConfigError, DatasetError

LINES = ReaderOptions(captions_per_file="lines")


def test_pictures_in_folders_below_with_either_kind_of_caption_file(folder, captions_of):
    data = folder({"b.jpg": None, "b.txt": "b", "sub/a.PNG": None, "sub/a.caption": "a", "sub/deep/c.webp": None,
                   "sub/deep/c.TXT": "c", ".hidden/d.jpg": None, ".hidden/d.txt": "d"})  # fmt: skip
    reading = read_folder(data)
    assert captions_of(reading) == {"b.jpg": ("b",), "sub/a.PNG": ("a",), "sub/deep/c.webp": ("c",)}
    assert (reading.caption_format, reading.told) == ("text", "text files beside the pictures")


def test_a_caption_a_line(folder, captions_of):
    data = folder({"a.jpg": None, "a.txt": "one\r\n\n  two  dogs\nthree"})
    assert captions_of(read_folder(data, "text"))["a.jpg"] == ("one two dogs three",)
    assert captions_of(read_folder(data, "text", options=LINES))["a.jpg"] == ("one", "two dogs", "three")


def test_a_caption_file_of_each_kind_is_one_too_many(folder):
    data = folder({"a.jpg": None, "a.txt": "one", "a.caption": "two"})
    with pytest.raises(DatasetError, match=r"a\.jpg has more than one caption file: .*Keep one of them"):
        read_folder(data)


def test_captions_without_a_picture_are_counted(folder):
    data = folder({"a.jpg": None, "a.txt": "a", "sub/b.txt": "b", "c.caption": "c", "README.txt": "x"})
    assert "2 with captions but no picture of that name (c.caption, sub/b.txt)" in read_folder(data).skipped


def test_links_to_folders_are_not_followed_and_told(folder, tmp_path: Path, captions_of):
    data = folder({"sub/a.jpg": None, "sub/a.txt": "a"})
    (data / "again").symlink_to("sub")
    (data / "sub" / "round").symlink_to(data)
    reading = read_folder(data)
    assert captions_of(reading) == {"sub/a.jpg": ("a",)}
    assert "2 with links to folders, which are not followed (again, sub/round)" in reading.skipped


def test_a_caption_of_a_book_is_refused(folder):
    data = folder({"a.jpg": None, "a.txt": "x" * (MAX_CAPTION_CHARACTERS + 1)})
    with pytest.raises(DatasetError, match=r"caption in .*a\.txt is too long: 100,001 characters"):
        read_folder(data)


def test_unknown_way_to_divide_a_file():
    with pytest.raises(ConfigError, match="captions_per_file must be 'one' or 'lines', not 'many'"):
        ReaderOptions(captions_per_file="many")


def test_lines_mean_nothing_to_a_manifest(folder):
    data = folder({"manifest.json": {"a.jpg": "a"}, "a.jpg": None})
    with pytest.raises(ConfigError, match=r"captions_per_file='lines' means something to .*'text', 'kohya' only"):
        read_folder(data, "json", options=LINES)
    with pytest.raises(DatasetError, match="No captions found"):
        read_folder(data, options=LINES)


class TestKohya:
    def test_folders_with_repeats_are_found_and_the_repeats_told(self, folder, captions_of):
        data = folder({"img/12_a cat/x.png": None, "img/12_a cat/x.txt": "a cat", "img/3_dog/sub/y.png": None,
                       "img/3_dog/sub/y.caption": "a dog", "img/log/z.png": None})  # fmt: skip
        reading = read_folder(data)
        assert reading.caption_format == "kohya"
        assert captions_of(reading) == {"img/12_a cat/x.png": ("a cat",), "img/3_dog/sub/y.png": ("a dog",)}
        assert reading.told == "kohya folders, 12_a cat, 3_dog; N is not used as a weight"
        assert reading.repeats.tolist() == [12, 3]
        assert read_folder(data, options=ReaderOptions(use_repeats=True)).told.endswith("; N is used as a weight")
        assert read_folder(data, "text").repeats is None

    def test_many_folders_are_told_by_their_range(self, folder):
        data = folder({f"{n}_n/a.{end}": "a" for n in (5, 70, 6, 1) for end in ("jpg", "txt")})
        assert read_folder(data).told.startswith("kohya folders, 1_n, 5_n, 6_n, ...: 4 in all, N 1 to 70;")

    def test_pairs_beside_the_folders_make_it_text(self, folder, captions_of):
        data = folder({"2_cat/x.png": None, "2_cat/x.txt": "a cat", "y.png": None, "y.txt": "a dog"})
        reading = read_folder(data)
        assert (reading.caption_format, len(reading.samples)) == ("text", 2)
        assert reading.others == ["kohya folders (1 caption)"]
        assert list(captions_of(read_folder(data, "kohya"))) == ["2_cat/x.png"]

    def test_text_reads_them_when_asked(self, folder, captions_of):
        data = folder({"2_cat/x.png": None, "2_cat/x.txt": "a cat"})
        assert captions_of(read_folder(data, "text")) == captions_of(read_folder(data))

    @pytest.mark.parametrize(
        ("contents", "message"),
        [
            ({"cat/x.png": None, "cat/x.txt": "a"}, r"No captioned pictures in folders of the form N_name"),
            ({"2_cat/x.png": None, "2_cat/x.txt": " \n"}, r"No captioned pictures in folders of the form N_name"),
            ({"2_cat/x.png": None, "2_cat/x.txt": b"\xe9"}, r"x\.txt is not text in UTF-8: .* at byte 0"),
            ({"2_cat/x.png": None, "2_cat/x.txt": "a", "2_cat/x.caption": "a"}, r"more than one caption file"),
        ],
    )
    def test_damaged(self, folder, contents, message):
        with pytest.raises(DatasetError, match=message):
            read_folder(folder(contents), "kohya")

    def test_a_real_one(self, shared_data):
        reading = read_folder(shared_data / "lora_mickey1928")
        assert (reading.caption_format, len(reading.samples)) == ("kohya", 132)
        assert "10 in all, N 42 to 1000" in reading.told
        assert len(read_folder(shared_data / "lora_mickey1928", "text").samples) == 132


def test_a_small_file_takes_little_memory(tmp_path):
    """Asked for a gigabyte, Python takes a gigabyte before it looks how long the file is."""
    (tmp_path / "manifest.json").write_text('{"a.jpg": "a cat"}')
    tracemalloc.start()
    try:
        assert read_text(tmp_path / "manifest.json", max_bytes=1 << 30, what="manifest") == '{"a.jpg": "a cat"}'
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
