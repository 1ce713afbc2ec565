"""`imagefolder`: a metadata file beside the pictures."""

import importlib.util
import json
from pathlib import Path

import pytest

from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import DatasetError

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="needs pyarrow, the extra `parquet`")

JSONL = '{"file_name": "a.jpg", "text": "a cat"}\n{"file_name": "sub/b.jpg", "text": "a dog"}\n'
CSV = "file_name,text\na.jpg,a cat\nsub/b.jpg,a dog\n"
WANTED = {"train/a.jpg": ("a cat",), "train/sub/b.jpg": ("a dog",)}


@pytest.mark.parametrize(("name", "content"), [("metadata.jsonl", JSONL), ("metadata.csv", CSV)])
def test_beside_the_pictures_in_the_folder_or_in_the_one_below(folder, captions_of, name, content):
    data = folder({"train/a.jpg": None, "train/sub/b.jpg": None, f"train/{name}": content})
    reading = read_folder(data)
    assert captions_of(reading) == WANTED
    assert (reading.caption_format, reading.told) == ("imagefolder", f"image folder, train/{name}")
    assert read_folder(data / "train").told == f"image folder, {name}"


def test_of_two_splits_the_larger_is_read_and_the_other_told(folder):
    data = folder({"train/a.jpg": None, "train/sub/b.jpg": None, "train/metadata.csv": CSV,
                   "test/c.jpg": None, "test/metadata.csv": "file_name,text\nc.jpg,a cow\n"})  # fmt: skip
    reading = read_folder(data)
    assert reading.told == "image folder, train/metadata.csv"
    assert reading.others == ["image folder, test/metadata.csv (1 caption)"]
    assert len(read_folder(data, manifest_file="test/metadata.csv").samples) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.jpg", "text": "a"}\n{"file_name": "a.jpg"', r"jsonl, line 2, is not"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "label": {"x": 1}}', r"No caption in .*line 1: .*found an object"),
        ("metadata.csv", "file_name,kind\na.jpg,1\n", r"no column of the captions: .*found 'file_name', 'kind'"),
        ("metadata.csv", "file_name,text\n../../a.jpg,a\n", r"leaves the data folder"),
    ],
)  # fmt: skip
def test_damaged(folder, name, content, message):
    with pytest.raises(DatasetError, match=message):
        read_folder(folder({"a.jpg": None, name: content}))


def test_a_file_of_another_ending_is_none(folder):
    data = folder({"a.jpg": None, "metadata.yaml": "a.jpg: a"})
    with pytest.raises(DatasetError, match=r"metadata\.yaml is no metadata file .*metadata|expected one of \.jsonl"):
        read_folder(data, "imagefolder", "metadata.yaml")


def test_a_metadata_file_whose_pictures_are_gone(shared_data):
    with pytest.raises(DatasetError, match=r"None of the 96 pictures .*metadata\.jsonl names is there"):
        read_folder(shared_data / "lora_mickey1928", "imagefolder")


@pytest.mark.skipif(HAS_PYARROW, reason="pyarrow is installed")
def test_parquet_without_pyarrow_names_the_extra(folder):
    with pytest.raises(
        DatasetError, match=r"needs pyarrow, which is not installed\. Run: pip install 'pixel-llm\[parq"
    ):
        read_folder(folder({"a.jpg": None, "metadata.parquet": b"PAR1"}))


@needs_pyarrow
class TestParquet:
    @pytest.fixture
    def write(self, folder):
        import pyarrow
        from pyarrow import parquet

        def write_table(**columns: list[object]) -> Path:
            data = folder({"a.jpg": None, "b.jpg": None})
            parquet.write_table(pyarrow.table(columns), data / "metadata.parquet")
            return data

        return write_table

    def test_rows(self, write, captions_of):
        data = write(file_name=["a.jpg", "b.jpg", "a.jpg"], text=["a cat", "a dog", "one cat"], id=[1, 2, 3])
        assert captions_of(read_folder(data)) == {"a.jpg": ("a cat", "one cat"), "b.jpg": ("a dog",)}

    def test_lists_of_captions_and_named_columns(self, write, captions_of):
        data = write(was=["a.jpg"], said=[["a cat", "one cat"]])
        reading = read_folder(data, options=ReaderOptions(image_column="was", caption_column="said"))
        assert captions_of(reading) == {"a.jpg": ("a cat", "one cat")}

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"file_name": ["a.jpg"], "kind": [1]}, r"no column of the captions: .*found 'file_name', 'kind'"),
            ({"file_name": ["b.jpg", "a.jpg"], "text": ["x", None]}, r"No caption in .*line 2: .*found null"),
            ({"file_name": [b"\xff"], "text": ["x"]}, r"No picture's name in .*line 1"),
        ],
    )
    def test_damaged_values(self, write, columns, message):
        with pytest.raises(DatasetError, match=message):
            read_folder(write(**columns))

    @pytest.mark.parametrize("keep", [0, 4, 40, -4])
    def test_damaged_files(self, write, keep):
        data = write(file_name=["a.jpg"], text=["x"])
        content = (data / "metadata.parquet").read_bytes()
        (data / "metadata.parquet").write_bytes(content[:keep])
        with pytest.raises(DatasetError, match=r"metadata\.parquet cannot be read as Parquet"):
            read_folder(data)


def test_the_head_of_a_real_one_reads(folder, shared_data, captions_of):
    """Names, keys and order of keys as somebody really wrote them; the pictures are put where it says."""
    lines = (shared_data / "lora_mickey1928" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    pictures = {json.loads(line)["file_name"]: None for line in lines}
    reading = read_folder(folder({**pictures, "metadata.jsonl": "\n".join(lines)}))
    assert (reading.caption_format, len(reading.samples)) == ("imagefolder", 5)
