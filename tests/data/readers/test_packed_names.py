"""Manifests whose names lead into a shard."""

import io
import tarfile
from pathlib import Path

import pytest

from systems.pixel_llm.data.picture_path import PackedPicture
from systems.pixel_llm.data.readers.packed_names import find_packed_by_path
from systems.pixel_llm.data.samples import read_folder
from systems.pixel_llm.errors import DatasetError


def tar_of(**sizes: int) -> bytes:
    """An archive of pictures that are zeros; no captions."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, size in sizes.items():
            info = tarfile.TarInfo(f"sub/{name}.jpg")
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    return file.getvalue()


def test_pictures_in_shards_and_files_together(folder):
    data = folder({"x/0.tar": tar_of(a=1, b=2), "1.TAR": tar_of(c=3), "d.jpg": None, "manifest.json": {
        "x/0.tar/sub/b.jpg": "a dog", "1.TAR/sub/c.jpg": ["a cow", "one cow"], "d.jpg": "a cat",
        "x/0.tar/sub/z.jpg": "gone", "2.tar/a.jpg": "gone"}})  # fmt: skip
    reading = read_folder(data, "json")
    assert {str(each.image_path): each.captions for each in reading.samples} == {
        str(data / "x/0.tar/sub/b.jpg"): ("a dog",),
        str(data / "1.TAR/sub/c.jpg"): ("a cow", "one cow"),
        str(data / "d.jpg"): ("a cat",),
    }
    pictures = {each.image_path.name: each.image_path for each in reading.samples}
    assert pictures["b.jpg"] == PackedPicture(
        str(data / "x/0.tar"), 512 + 512 + 512, 2, str(data / "x/0.tar/sub/b.jpg")
    )
    assert isinstance(pictures["d.jpg"], Path)
    assert list(reading.passed_over["no such picture"]) == ["2.tar/a.jpg", "x/0.tar/sub/z.jpg"]


def test_full_paths_into_shards_are_found_again_and_a_bad_shard_has_none(folder):
    data = folder({"0.tar": tar_of(a=1, b=2), "bad.tar": b"no archive", "d.jpg": None})
    names = ("0.tar/sub/b.jpg", "0.tar/sub/z.jpg", "bad.tar/a.jpg", "gone.tar/a.jpg", "d.jpg")
    found = find_packed_by_path(str(data / name) for name in names)
    wanted = str(data / "0.tar/sub/b.jpg")
    assert found == {wanted: PackedPicture(str(data / "0.tar"), 512 + 512 + 512, 2, wanted)}


def test_pictures_in_tables(folder):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    from pyarrow import parquet

    data = folder({"manifest.json": {"x.parquet/row-000001": "another"}})
    parquet.write_table(pyarrow.table({"image": [b"1", b"2"], "text": ["a", "b"]}), data / "x.parquet")
    (sample,) = read_folder(data, "json").samples
    assert (sample.captions, sample.image_path.offset, sample.image_path.size) == (("another",), 1, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../out.tar/sub/a.jpg", "leaves the data folder"),
        ("/out.tar/sub/a.jpg", "is absolute"),
        ("0.tar/../../a.jpg", "leaves the data folder"),
        ("0.tar/../0.tar/sub/a.jpg", "None of the 1 pictures"),
        ("link.tar/sub/a.jpg", "leaves the data folder|link that leads out"),
        ("bad.tar/a.jpg", r"bad\.tar is not a tar file"),
    ],
)
def test_names_that_lead_elsewhere(folder, tmp_path, name, message):
    (tmp_path / "out.tar").write_bytes(tar_of(a=1))
    data = folder({"0.tar": tar_of(a=1), "bad.tar": b"x" * 2000, "manifest.json": {name: "a cat"}})
    (data / "link.tar").symlink_to(tmp_path / "out.tar")
    with pytest.raises(DatasetError, match=message):
        read_folder(data, "json")
