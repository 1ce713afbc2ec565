"""Whatever bytes a file holds, a reader gives samples or a DatasetError, and stays in the folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from systems.pixel_llm.data.readers.parquet_table import read_parquet_rows
from systems.pixel_llm.data.readers.registry import READERS
from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import DatasetError

FILES = {
    "text": "a.txt",
    "kohya": "2_x/a.txt",
    "json": "manifest.json",
    "jsonl": "x.jsonl",
    "csv": "x.csv",
    "imagefolder": "metadata.jsonl",
    "coco": "captions.json",
    "flickr8k": "x.token.txt",
    "webdataset": "x.tar",
    "parquet": "x.parquet",
}
"""Format -> the file that the bytes are written to."""

# What the formats are made of, so that bytes at random get past the first character.
PIECES = [
    *["{", "}", "[", "]", ":", ",", '"', "\\", "\\u", "\\ud800", "null", "true", "-0", "1e999", "NaN", "9" * 5000],
    *["\n", "\r", "\r\n", "\t", ";", "|", "#", "#0\t", " ", "\0", "\x1b[31m", "\u2028", "\ufeff", "\u200d", "é", "🙂"],
    *["a.jpg", "A.JPG", "../a.jpg", "/etc/passwd", "C:\\a.jpg", "~", ".", "..", "", "sub/a.jpg", "x" * 300, "out.jpg"],
    *['"a.jpg"', '"images"', '"annotations"', '"id"', '"image_id"', '"file_name"', '"caption"', '"text"', '"a cat"'],
    *["file_name,text\n", "image\tcaption\n", '{"file_name": "a.jpg", "text": ', '{"images": [{"id": 1, "file_name": '],
]
# fmt: off
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30).map("".join)
contents = st.one_of(
    texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    texts.map(lambda text: text.encode("utf-16", "surrogatepass")),
    st.binary(max_size=200),
)
# fmt: on


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and a link out of it."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("a.jpg", "sub/b.JPG", "2_x/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "out.jpg").symlink_to("/etc/hostname")
    return folder


@contextmanager
def holding(data: Path, name: str, content: bytes) -> Iterator[Path]:
    """The file is there, inside."""
    path = data / name
    path.write_bytes(content)
    try:
        yield path
    finally:
        path.unlink()


def check(data: Path, caption_format: str, manifest: Path | None, options: ReaderOptions) -> None:
    try:
        reading = read_folder(data, caption_format, manifest, options=options)
    except DatasetError as error:
        str(error).encode()
        return
    assert reading.samples
    for sample in reading.samples:
        assert sample.image_path.resolve().is_relative_to(data)
        assert sample.image_path.is_file()
        assert sample.captions
        for caption in sample.captions:
            assert caption == " ".join(caption.split()) != ""
            assert not any(ord(letter) < 32 for letter in caption)
            caption.encode()
    reading.skipped.encode()


def test_every_format_is_here():
    assert list(FILES) == list(READERS)


@pytest.mark.parametrize("caption_format", FILES)
@settings(max_examples=60)
@given(content=contents, lines=st.booleans())
@example(content=b"", lines=True)
@example(content=b"\xff\xfe", lines=True)
@example(content=b"\xff\xfea", lines=False)
@example(content=b"\xef\xbb\xbf", lines=False)
@example(content=b'{"a.jpg": {"a.jpg": ' * 5000, lines=False)
@example(content=b'"' * 10_001, lines=False)
@example(content=b"#" * 10_001 + b"\t", lines=False)
def test_readers_give_samples_or_a_data_error(data, caption_format, content, lines):
    reader = READERS[caption_format]
    options = ReaderOptions(captions_per_file="lines" if lines and "captions_per_file" in reader.options else "one")
    with holding(data, FILES[caption_format], content) as path:
        check(data, caption_format, path if reader.has_manifest else None, options)


@settings(max_examples=60)
@given(content=contents, name=st.sampled_from([*FILES.values(), "metadata.csv", "captions.txt", "x.tsv", "x.odd"]))
def test_so_does_looking(data, content, name):
    with holding(data, name, content) as path:
        check(data, "auto", path, ReaderOptions())
        check(data, "auto", None, ReaderOptions())


@settings(max_examples=60)
@given(content=st.binary(max_size=200).map(lambda content: b"PAR1" + content + b"PAR1") | st.binary(max_size=50))
def test_so_do_parquet_files(data, content):
    pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    with holding(data, "metadata.parquet", content) as path, pytest.raises(DatasetError):
        read_parquet_rows(path, ReaderOptions())
